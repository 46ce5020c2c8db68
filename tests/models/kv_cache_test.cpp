// Keys and values as int8: near the floats, step by step as at once, allocated once.

#include <cmath>
#include <string>

#include "kvant/models/cache.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace {

using kvant::models::Cache;
using kvant::models::KvFormat;
using kvant::models::KvRows;
using kvant::models::TokenId;
using kvant::test::largest_difference;
using kvant::test::load;
using kvant::test::logits_of;
using Ids = std::vector<TokenId>;

const std::filesystem::path kFamilies = std::filesystem::path(KVANT_TEST_DATA) / "families";

/// Two heads of four.
std::vector<float> back(const KvRows& rows, std::int64_t begin, std::int64_t count) {
  std::vector<float> scratch;
  std::vector<float> result;
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t h = 0; h < 2; ++h) {
      std::int64_t stride = 0;
      const float* first = rows.head(h, 2, 4, begin, count, scratch, stride);
      result.insert(result.end(), first + r * stride, first + r * stride + 4);
    }
  }
  return result;
}

}  // namespace

TEST_CASE("kv cache: a scale for each token and head, rounded half to even") {
  const std::vector<float> tokens = {127, 0.5f,  1.5f, -2.5f, 1, -0.25f, 0.1f, 0,
                                     0,   -0.0f, 0,    0,     8, -8,     4,    -2};
  KvRows codes;
  KvRows floats;
  for (const std::size_t at : {std::size_t{0}, std::size_t{8}}) {
    codes.append(KvFormat::int8, tokens.data() + at, 2, 4);
    floats.append(KvFormat::fp32, tokens.data() + at, 2, 4);
  }
  CHECK(back(floats, 0, 2) == tokens);
  CHECK(back(floats, 1, 1) == std::vector<float>(tokens.begin() + 8, tokens.end()));
  CHECK(codes.codes ==
        std::vector<std::int8_t>{127, 0, 2, -2, 127, -32, 13, 0, 0, 0, 0, 0, 127, -127, 64, -32});
  CHECK(codes.scales == std::vector<float>{1.0f, 1.0f / 127, 0.0f, 8.0f / 127});
  CHECK(largest_difference(back(codes, 0, 2), tokens) <= 0.5);

  const std::vector<float> odd = {1, std::nanf(""), 2, 3, HUGE_VALF, 1, 1, 1};
  KvRows broken;
  broken.append(KvFormat::int8, odd.data(), 2, 4);
  for (const float value : back(broken, 0, 1)) CHECK(std::isnan(value));  // not hidden
}

TEST_CASE("kv cache: every kind of attention, near its floats, step by step as at once") {
  kvant::Context context;
  const Ids ids = {3, 4, 5, 60, 7, 8, 9, 10, 11, 12, 13, 2};
  for (const char* name :
       {"llama_rope3", "falcon_7b", "bloom", "gemma2", "gpt_neox", "mistral_window", "opt"}) {
    INFO(name);
    const auto model = load(context, kFamilies / name);
    Cache exact;
    const std::vector<float> wanted = logits_of(context, model, ids, exact);
    double power = 0;
    for (const float v : wanted) power = std::max(power, std::fabs(static_cast<double>(v)));
    Cache at_once(KvFormat::int8);
    const std::vector<float> logits = logits_of(context, model, ids, at_once);
    const double error = largest_difference(logits, wanted);
    CHECK(error > 0);
    CHECK(error <= 0.05 * power);
    Cache steps(KvFormat::int8);
    std::vector<float> all;
    for (const TokenId id : ids) {
      const std::vector<float> row = logits_of(context, model, {id}, steps);
      all.insert(all.end(), row.begin(), row.end());
    }
    CHECK(largest_difference(all, logits) <= 0.02 * power);  // a code may be the next one
    CHECK(steps.layers[0].keys.codes.size() ==
          ids.size() * static_cast<std::size_t>(model.config.kv_dim()));
    CHECK(steps.layers[0].keys.floats.empty());
  }
}

TEST_CASE("kv cache: int8 is allocated once, and a quarter as large") {
  kvant::Context context;
  const auto model = load(context, kFamilies / "llama_rope3");
  Cache cache(KvFormat::int8);
  cache.reserve(model.config, 24);
  (void)logits_of(context, model, {3, 4, 5, 6}, cache);
  const std::int8_t* codes = cache.layers[1].values.codes.data();
  const float* scales = cache.layers[1].values.scales.data();
  for (int i = 0; i < 20; ++i) (void)logits_of(context, model, {7}, cache);
  CHECK(cache.length == 24);
  CHECK(cache.layers[1].values.codes.data() == codes);
  CHECK(cache.layers[1].values.scales.data() == scales);
  // 2 layers, keys and values, 2 heads of 8: codes and scales.
  CHECK(Cache::token_bytes(model.config, KvFormat::int8) == 2 * 2 * (16 + 2 * 4));
  CHECK(Cache::token_bytes(model.config, KvFormat::fp32) == 2 * 2 * 16 * 4);
  CHECK(kvant::test::code_of([&] { cache.reserve(model.config, std::int64_t{1} << 60); }) ==
        kvant::ErrorCode::out_of_memory);
}
