// Keys and values as int8: near the floats, step by step as at once, allocated once.

#include <cmath>
#include <string>

#include "kvant/models/cache.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"

namespace {

using kvant::models::Cache;
using kvant::models::KvFormat;
using kvant::models::LayerCache;
using kvant::models::TokenId;
using kvant::test::kFamilies;
using kvant::test::largest_difference;
using kvant::test::load;
using kvant::test::logits_of;
using Ids = std::vector<TokenId>;

/// Keys of a cache of two heads of four, token by token.
std::vector<float> keys_of(const LayerCache& cache) {
  std::vector<float> result;
  for (std::int64_t t = 0; t < cache.tokens; ++t) {
    for (std::int64_t c = 0; c < 8; ++c) {
      const auto at = static_cast<std::size_t>((t / 16 * 8 + c) * 16 + t % 16);
      const auto scale = static_cast<std::size_t>((t / 16 * 2 + c / 4) * 16 + t % 16);
      result.push_back(cache.format == KvFormat::fp32
                           ? cache.keys.floats[at]
                           : static_cast<float>(cache.keys.codes[at]) * cache.keys.scales[scale]);
    }
  }
  return result;
}

/// The same of values, which lie in rows.
std::vector<float> values_of(const LayerCache& cache) {
  std::vector<float> result = cache.values.floats;
  for (std::size_t i = 0; i < cache.values.codes.size(); ++i) {
    const std::size_t t = i / 8;
    const float scale = cache.values.scales[(t / 16 * 2 + i % 8 / 4) * 16 + t % 16];
    result.push_back(static_cast<float>(cache.values.codes[i]) * scale);
  }
  return result;
}

}  // namespace

TEST_CASE("kv cache: panels of keys, rows of values, a scale for each token and head") {
  const std::vector<float> heads = {127, 0.5f,  1.5f, -2.5f, 1, -0.25f, 0.1f, 0,
                                    0,   -0.0f, 0,    0,     8, -8,     4,    -2};
  LayerCache codes{KvFormat::int8};
  LayerCache floats{KvFormat::fp32};
  std::vector<float> expected;
  for (int t = 0; t < 37; ++t) {  // three panels, the last not full
    const float* token = heads.data() + t % 2 * 8;
    codes.append(token, token, 2, 4);
    floats.append(token, token, 2, 4);
    expected.insert(expected.end(), token, token + 8);
  }
  CHECK(keys_of(floats) == expected);
  CHECK(values_of(floats) == expected);
  CHECK(floats.keys.floats.size() == 3 * 16 * 8);
  CHECK(largest_difference(keys_of(codes), expected) <= 0.5);
  CHECK(keys_of(codes) == values_of(codes));
  // Rounded half to even.
  CHECK(std::vector<std::int8_t>(codes.values.codes.begin(), codes.values.codes.begin() + 16) ==
        std::vector<std::int8_t>{127, 0, 2, -2, 127, -32, 13, 0, 0, 0, 0, 0, 127, -127, 64, -32});
  CHECK(codes.values.scales[0] == 1.0f);
  CHECK(codes.values.scales[1] == 0.0f);
  CHECK(codes.values.scales[17] == 8.0f / 127);

  const std::vector<float> odd = {1, std::nanf(""), 2, 3, HUGE_VALF, 1, 1, 1};
  LayerCache broken{KvFormat::int8};
  broken.append(odd.data(), odd.data(), 2, 4);
  for (const float value : values_of(broken)) CHECK(std::isnan(value));  // not hidden
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
    CHECK(steps.layers[0].values.codes.size() ==
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
  // Emptied, it is as a new one, and its memory stays.
  const auto again = [&](Cache& one) { return logits_of(context, model, {9, 8, 7}, one); };
  cache.clear();
  Cache other(KvFormat::int8);
  CHECK(again(cache) == again(other));
  CHECK(cache.layers[1].values.codes.data() == codes);
  Cache copy = cache;
  CHECK(again(copy) == again(cache));
  // 2 layers, keys and values, 2 heads of 8: codes and scales.
  CHECK(Cache::token_bytes(model.config, KvFormat::int8) == 2 * 2 * (16 + 2 * 4));
  CHECK(Cache::token_bytes(model.config, KvFormat::fp32) == 2 * 2 * 16 * 4);
  CHECK(kvant::test::code_of([&] { cache.reserve(model.config, std::int64_t{1} << 60); }) ==
        kvant::ErrorCode::out_of_memory);
}
