// Golden logits and greedy ids: the checkpoints of tests/data, and the small trained model with its
// reference figures.

#include <cmath>
#include <kvant/io/checkpoint.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/models/tokenizer.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::test::ids_in;
using kvant::test::kData;
using kvant::test::kTinyCode;
using kvant::test::largest_difference;
using kvant::test::load;
using kvant::test::logits_of;
using nlohmann::json;
using Ids = std::vector<kvant::models::TokenId>;

// Sanitizers and unoptimised builds run a part of the text: the same code, without its figures.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
constexpr bool kShort = true;
#else
constexpr bool kShort = false;
#endif

/// Logits stored in any float type.
std::vector<float> logits_in(const kvant::io::SafeTensors& file) {
  std::vector<float> result;
  const auto add = [&](const auto& values) {
    for (const auto v : values) result.push_back(static_cast<float>(v));
  };
  switch (file.tensor("logits").info->dtype) {
    case kvant::DType::float16: add(file.values<kvant::float16>("logits")); break;
    case kvant::DType::bfloat16: add(file.values<kvant::bfloat16>("logits")); break;
    default: add(file.values<float>("logits"));
  }
  return result;
}

void check_checkpoint(const std::string& name, const std::string& scheme,
                      std::optional<kvant::Arithmetic> mode, double tolerance) {
  INFO(name << " " << scheme);
  kvant::Context context;
  const auto folder = kData / "checkpoints" / name;
  const kvant::io::SafeTensors expected(folder / "expected.safetensors");
  const kvant::models::Model model = load(context, folder, scheme, mode);
  CHECK(largest_difference(logits_of(context, model, ids_in(expected, "input_ids")),
                           logits_in(expected)) <= tolerance);
  Ids greedy = ids_in(expected, "generate_prompt");
  const Ids prompt = greedy;
  const Ids wanted = ids_in(expected, "greedy");
  const Ids more = kvant::models::generate(
      context, model, prompt, static_cast<std::int64_t>(wanted.size() - prompt.size()));
  greedy.insert(greedy.end(), more.begin(), more.end());
  CHECK(greedy == wanted);
}

const json& reference() {
  static const json all = json::parse(kvant::test::read_text(kTinyCode / "reference.json"));
  return all;
}

struct Outcome {
  double perplexity;
  Ids greedy;
};

/// The whole text, or its first two windows.
Outcome run_tiny(const std::string& scheme, std::optional<kvant::Arithmetic> mode = {}) {
  kvant::Context context;
  const kvant::models::Model model = load(context, kTinyCode / "model", scheme, mode);
  const kvant::models::Tokenizer tokenizer(kTinyCode / "model/tokenizer.json");
  Ids ids = tokenizer.encode(kvant::test::read_text(kTinyCode / "eval.txt"));
  ids.insert(ids.begin(), 0);
  if (kShort) ids.resize(512);
  Outcome outcome;
  const kvant::models::Perplexity result = kvant::models::evaluate(context, model, ids, 256);
  if (!kShort) CHECK(result.tokens == 3440);
  outcome.perplexity = result.perplexity;
  outcome.greedy = kvant::models::generate(context, model, reference().at("prompt_ids").get<Ids>(),
                                           kShort ? 16 : 64);
  return outcome;
}

void check_perplexity(double got, double expected, double relative) {
  if (kShort) return;  // the expected figures are those of the whole text
  INFO(got << " against " << expected);
  CHECK(std::fabs(got - expected) <= relative * expected);
}

void check_greedy(const Ids& got, const char* scheme) {
  Ids wanted = reference().at("schemes").at(scheme).at("greedy").get<Ids>();
  wanted.resize(got.size());
  CHECK(got == wanted);
}

}  // namespace

TEST_CASE("checkpoints: golden logits and greedy ids of the float ones") {
  check_checkpoint("fp32", "fp32", {}, 1e-5);
  check_checkpoint("mha_erf_untied_fp32", "fp32", {}, 1e-5);
  check_checkpoint("fp16_sharded", "fp32", {}, 3e-3);
  check_checkpoint("bf16", "fp32", {}, 3e-2);
  check_checkpoint("bf16", "bf16", {}, 3e-2);
}

TEST_CASE("checkpoints: 8-bit ones of bitsandbytes in its own arithmetic") {
  // 5e-3 of the largest logit: another libm's gelu may flip a code.
  for (const char* name : {"bnb_int8", "bnb_int8_threshold0"}) {
    const auto folder = kData / "checkpoints" / name;
    double largest = 0;
    for (const float v : logits_in(kvant::io::SafeTensors(folder / "expected.safetensors"))) {
      largest = std::max(largest, std::fabs(static_cast<double>(v)));
    }
    check_checkpoint(name, "", kvant::Arithmetic::bitsandbytes, 5e-3 * largest);
  }
  const kvant::models::Config config =
      kvant::models::load_config(kData / "checkpoints/bnb_int8_threshold0/config.json");
  CHECK(kvant::models::make_plan(config, {}).threshold == 0);
  CHECK(kvant::models::make_plan(config, {}).scheme == kvant::models::Scheme::llm_int8);
}

TEST_CASE("checkpoints: 8-bit ones of bitsandbytes, expanded to floats on request") {
  kvant::Context context;
  const auto folder = kData / "checkpoints/bnb_int8";
  const kvant::io::SafeTensors expected(folder / "expected.safetensors");
  const Ids ids = ids_in(expected, "input_ids");
  const std::vector<float> want = logits_in(expected);
  double largest = 0;
  for (const float v : want) largest = std::max(largest, std::fabs(static_cast<double>(v)));
  for (const char* scheme : {"fp32", "bf16", "nf4"}) {
    INFO(scheme);
    const double difference =
        largest_difference(logits_of(context, load(context, folder, scheme), ids), want);
    // What LLM.int8() itself loses, and more for what is quantized again.
    CHECK(difference < (std::string(scheme) == "nf4" ? 0.5 : 0.1) * largest);
  }
}

TEST_CASE("no id is chosen among logits that are NaN") {
  kvant::models::Sampler sampler({});
  CHECK(sampler.choose(std::vector<float>{0, 2, 1}) == 1);
  CHECK_THROWS_WITH(sampler.choose(std::vector<float>{0, NAN, 1}),
                    Catch::Contains("the logit of id 1 is NaN"));
}

TEST_CASE("checkpoints: 4-bit ones of bitsandbytes, expanded to floats on request") {
  check_checkpoint("bnb_fp4", "fp32", {}, 1e-5);
  check_checkpoint("bnb_nf4_double", "fp32", {}, 3e-2);  // which computes in bf16
}

TEST_CASE("tiny-code-model: logits in fp32") {
  kvant::Context context;
  const kvant::io::SafeTensors expected(kTinyCode / "logits.safetensors");
  Ids ids = ids_in(expected, "input_ids");
  std::vector<float> wanted = expected.values<float>("logits");
  const kvant::models::Model model = load(context, kTinyCode / "model");
  CHECK(largest_difference(logits_of(context, model, ids), wanted) <= 2e-4);
}

TEST_CASE("tiny-code-model: fp32") {
  const Outcome outcome = run_tiny("fp32");
  check_perplexity(outcome.perplexity, 6.826720153537914, 1e-5);
  check_greedy(outcome.greedy, "fp32");
}

TEST_CASE("tiny-code-model: bf16") {
  check_perplexity(run_tiny("bf16").perplexity, 6.82630066219855, 0.003);
}

TEST_CASE("tiny-code-model: int8 of the whole tensor") {
  check_perplexity(run_tiny("int8-tensor").perplexity, 41.80370844794292, 0.03);
}

TEST_CASE("tiny-code-model: int8 vector-wise") {
  check_perplexity(run_tiny("int8").perplexity, 8.760861912491949, 0.005);
  check_perplexity(run_tiny("int8", kvant::Arithmetic::bitsandbytes).perplexity, 8.760861912491949,
                   0.005);
}

TEST_CASE("tiny-code-model: LLM.int8() as bitsandbytes computes it") {
  const Outcome outcome = run_tiny("llm-int8", kvant::Arithmetic::bitsandbytes);
  check_perplexity(outcome.perplexity, 6.85894516504842, 1e-4);
  check_greedy(outcome.greedy, "llm-int8 (bitsandbytes)");
}

TEST_CASE("tiny-code-model: LLM.int8() with the outlier weights kept") {
  const Outcome outcome = run_tiny("llm-int8");
  if (!kShort) CHECK(outcome.perplexity <= 6.8370);
  check_greedy(outcome.greedy, "llm-int8 with original outlier weights (float64 emulation)");
}
