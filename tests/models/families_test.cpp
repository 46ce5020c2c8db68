// Every family: logits and greedy ids of transformers, step by step as at once, in every scheme.
// tests/data/families/make_families.py made the models.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/kernel_table.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::ids_in;
using kvant::test::kFamilies;
using kvant::test::largest;
using kvant::test::largest_difference;
using kvant::test::load;
using kvant::test::logits_of;
using Ids = std::vector<TokenId>;

std::vector<std::filesystem::path> model_families() {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(kFamilies)) {
    if (entry.is_directory()) result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

/// Logits of ids fed in calls of `step`.
std::vector<float> in_steps(kvant::Context& context, const kvant::models::Model& model,
                            const Ids& ids, std::size_t step) {
  kvant::models::Cache cache;
  std::vector<float> all;
  for (std::size_t i = 0; i < ids.size(); i += step) {
    const Ids part(ids.begin() + static_cast<std::ptrdiff_t>(i),
                   ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), i + step)));
    const std::vector<float> logits = logits_of(context, model, part, cache);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

/// The first 8 ids are given, the 16 behind them are generated.
void check_greedy(kvant::Context& context, const kvant::models::Model& model, const Ids& wanted) {
  kvant::models::GenerateOptions options;
  options.tokens = 16;
  options.ignore_eos = true;
  Ids greedy(wanted.begin(), wanted.begin() + 8);
  const Ids more = kvant::models::generate(context, model, greedy, options);
  greedy.insert(greedy.end(), more.begin(), more.end());
  CHECK(greedy == wanted);
}

}  // namespace

TEST_CASE("families: logits and greedy ids of transformers, all at once and step by step") {
  kvant::Context context;
  // checkpoints_test.cpp, encoders_test.cpp
  std::set<std::string_view> seen = {"gpt_bigcode", "bert", "roberta", "t5"};
  for (const auto& folder : model_families()) {
    INFO(folder.filename().string());
    const kvant::io::SafeTensors expected(folder / "expected.safetensors");
    const kvant::models::Model model = load(context, folder);
    seen.insert(model.config.model_type);
    const Ids ids = ids_in(expected, "input_ids");
    const std::vector<float> logits = logits_of(context, model, ids);
    const bool capped = model.config.attention_softcap > 0;
    CHECK(largest_difference(logits, expected.values<float>("logits")) <= (capped ? 5e-5 : 1e-5));

    // Dynamic rotary frequencies depend on the length of the call, in transformers too.
    if (model.config.rotary.scaling != kvant::models::RotaryScaling::dynamic) {
      for (const std::size_t step : {std::size_t{1}, std::size_t{5}}) {
        CHECK(largest_difference(in_steps(context, model, ids, step), logits) <=
              1e-5 * largest(logits));
      }
    }
    check_greedy(context, model, ids_in(expected, "greedy"));
  }
  const auto all = kvant::models::families();
  CHECK(seen == std::set<std::string_view>(all.begin(), all.end()));
}

TEST_CASE("GPTQ and AWQ folders run as they are: logits and greedy ids of transformers") {
  kvant::Context context;
  int folders = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(KVANT_TEST_DATA) / "gptq_awq")) {
    INFO(entry.path().filename().string());
    ++folders;
    const kvant::io::SafeTensors expected(entry.path() / "expected.safetensors");
    const kvant::models::Model model = load(context, entry.path());
    const std::vector<float> logits = logits_of(context, model, ids_in(expected, "input_ids"));
    CHECK(largest_difference(logits, expected.values<float>("logits")) <= 1e-5);
    check_greedy(context, model, ids_in(expected, "greedy"));
  }
  CHECK(folders == 6);
}

TEST_CASE("families: every scheme runs every family, near its floats") {
  kvant::Context context;
  for (const auto& folder : model_families()) {
    const kvant::io::SafeTensors expected(folder / "expected.safetensors");
    const Ids ids = ids_in(expected, "input_ids");
    const std::vector<float> exact = expected.values<float>("logits");
    for (const kvant::models::Scheme scheme : kvant::models::all_schemes()) {
      INFO(folder.filename().string() << " " << to_string(scheme));
      const kvant::models::Model model = load(context, folder, std::string(to_string(scheme)));
      const std::vector<float> logits = logits_of(context, model, ids);
      CHECK(kvant::test::relative_error(logits, exact) < kvant::test::error_of(scheme));
    }
  }
}

TEST_CASE("families: keys and values are allocated once") {
  kvant::Context context;
  const kvant::models::Model model = load(context, kFamilies / "llama_rope3");
  kvant::models::Cache cache;
  cache.reserve(model.config, 24);
  (void)logits_of(context, model, {3, 4, 5, 6}, cache);
  const float* keys = cache.layers[1].keys.floats.data();
  const float* values = cache.layers[1].values.floats.data();
  for (int i = 0; i < 20; ++i) (void)logits_of(context, model, {7}, cache);
  CHECK(cache.length == 24);
  CHECK(cache.layers[1].keys.floats.data() == keys);
  CHECK(cache.layers[1].values.floats.data() == values);
  CHECK(code_of([&] { cache.reserve(model.config, std::int64_t{1} << 60); }) ==
        kvant::ErrorCode::out_of_memory);
}

namespace {

std::atomic<int> quantizations = 0;
void (*quantize_rows)(const kvant::QuantizeRowsArgs&) noexcept = nullptr;

void count_quantize_rows(const kvant::QuantizeRowsArgs& arguments) noexcept {
  ++quantizations;
  quantize_rows(arguments);
}

}  // namespace

TEST_CASE("families: layers that read the same input quantize it once") {
  const kvant::KernelTable& best = kvant::Context().kernels();
  kvant::KernelTable counting = best;
  quantize_rows = best.quantize_rows;
  counting.quantize_rows = count_quantize_rows;
  kvant::Context context({.threads = 1, .kernels = &counting});
  const auto per_token = [&](const char* name, const char* scheme) {
    const kvant::models::Model model = load(context, kFamilies / name, scheme);
    const int before = quantizations;
    (void)logits_of(context, model, {5});
    return (quantizations - before) / model.config.n_layer;
  };
  for (const char* scheme : {"int8", "llm-int8"}) {
    INFO(scheme);
    CHECK(per_token("llama_rope3", scheme) == 4);  // q k v; output; gate up; down: not 7
    CHECK(per_token("opt", scheme) == 4);          // q k v; output; up; down: not 6
    CHECK(per_token("gpt_neox", scheme) == 4);     // fused qkv, and a norm for each half
    CHECK(per_token("falcon_7b", scheme) == 3);    // qkv and up of one norm; output; down
  }
  // The results are those of layers that quantize for themselves, bit for bit.
  const kvant::models::Model model = load(context, kFamilies / "llama_rope3", "llm-int8");
  const kvant::models::Projection& qkv = model.blocks[0].qkv;
  std::vector<float> x(3 * 32);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.7f * static_cast<float>(i));
  x[5] = 40;  // an outlier
  const kvant::MatrixView<const float> input(x.data(), 3, 32);
  std::vector<float> once(3 * 64);
  std::vector<float> apart(3 * 64);
  kvant::QuantizedActivations memory;
  kvant::models::LayerInput shared(input, &memory);
  kvant::models::LayerInput alone(input);
  qkv.forward(context, shared, {once.data(), 3, 64});
  qkv.forward(context, alone, {apart.data(), 3, 64});
  CHECK(std::memcmp(once.data(), apart.data(), once.size() * sizeof(float)) == 0);
}
