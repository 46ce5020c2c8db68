// The GPTBigCode model on small random folders: against a float64 reference, and against itself in
// every way the same numbers can be reached.

#include <cmath>
#include <kvant/error.hpp>
#include <kvant/io/glob.hpp>
#include <string>

#include "models/model_builder.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace {

using kvant::ErrorCode;
using kvant::test::code_of;
using kvant::test::largest_difference;
using kvant::test::load;
using kvant::test::logits_of;
using kvant::test::TempFolder;
using kvant::test::TestModel;
using Ids = std::vector<kvant::models::TokenId>;

const Ids kModelIds = {1, 7, 42, 98, 3, 3, 0, 55, 12, 97, 6};  // an odd number

TestModel random_model(unsigned seed = 1) {
  TestModel model;
  model.fill(seed);
  return model;
}

}  // namespace

TEST_CASE("model: float64 reference, both attention layouts, tied and untied") {
  kvant::Context context;
  for (const bool multi_query : {true, false}) {
    for (const bool tied : {true, false}) {
      TestModel model;
      model.config["multi_query"] = multi_query;
      model.config["tie_word_embeddings"] = tied;
      model.fill(multi_query ? 3 : 4);
      if (!tied) {
        model.tensors["lm_head.weight"] = model.tensors.at("transformer.wte.weight");
        for (float& v : model.tensors["lm_head.weight"].values) v *= 1.5f;
      }
      const TempFolder folder;
      model.save(folder.path());
      const auto logits = logits_of(context, load(context, folder.path()), kModelIds);
      CHECK(largest_difference(logits, kvant::test::reference_logits(model, kModelIds)) < 2e-5);
    }
  }
}

TEST_CASE("model: one prefill, single steps, and chunks give the same") {
  kvant::Context context;
  const TempFolder folder;
  random_model().save(folder.path());
  for (const char* scheme : {"fp32", "bf16", "int8"}) {
    INFO(scheme);
    const kvant::models::Model model = load(context, folder.path(), scheme);
    CHECK(model.rows_are_independent);
    const std::vector<float> whole = logits_of(context, model, kModelIds);
    kvant::models::Cache cache;
    std::vector<float> steps;
    for (const auto id : kModelIds) {
      const std::vector<float> row = logits_of(context, model, {id}, cache);
      steps.insert(steps.end(), row.begin(), row.end());
    }
    // bf16 and int8 round what float sums in another order: a code may flip.
    const double tolerance = std::string(scheme) == "fp32" ? 1e-5 : 0.2;
    CHECK(largest_difference(whole, steps) < tolerance);
    kvant::models::Cache at_once;
    kvant::models::Cache in_chunks;
    const auto a = kvant::models::prefill(context, model, kModelIds, at_once);
    const auto b = kvant::models::prefill(context, model, kModelIds, in_chunks, 4);
    CHECK(largest_difference(a, b) < tolerance);
    CHECK(at_once.length == in_chunks.length);
  }
  // A column that is an outlier in one row is one in all rows of the call.
  CHECK_FALSE(load(context, folder.path(), "llm-int8").rows_are_independent);
  CHECK_FALSE(load(context, folder.path(), "int8-tensor").rows_are_independent);
}

TEST_CASE("model: multi-head weights that repeat one K/V head equal multi-query") {
  const TestModel mqa = random_model(5);
  TestModel mha = mqa;
  mha.config["multi_query"] = false;
  const std::size_t H = 32;
  const std::size_t heads = 4;
  const std::size_t hd = H / heads;
  for (const std::string layer : {"0", "1"}) {
    for (const std::string part : {".weight", ".bias"}) {
      const std::string name = "transformer.h." + layer + ".attn.c_attn" + part;
      const std::vector<float>& from = mqa.at(name);
      const std::size_t width = part == ".weight" ? H : 1;
      std::vector<float> to;
      const auto copy = [&](std::size_t row) {
        const auto begin = from.begin() + static_cast<std::ptrdiff_t>(row * width);
        to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(hd * width));
      };
      for (std::size_t i = 0; i < heads; ++i) {
        copy(i * hd);  // q of this head
        copy(H);       // the one k
        copy(H + hd);  // the one v
      }
      mha.tensors[name].values = to;
      mha.tensors[name].shape[0] = 3 * H;
    }
  }
  kvant::Context context;
  const TempFolder a;
  const TempFolder b;
  mqa.save(a.path());
  mha.save(b.path());
  CHECK(largest_difference(logits_of(context, load(context, a.path()), kModelIds),
                           logits_of(context, load(context, b.path()), kModelIds)) < 1e-5);
}

TEST_CASE("model: tied by config or by a copy, with and without the prefix") {
  kvant::Context context;
  const TestModel tied = random_model();
  const TempFolder first;
  tied.save(first.path());
  const std::vector<float> expected = logits_of(context, load(context, first.path()), kModelIds);

  TestModel copied = tied;
  copied.config["tie_word_embeddings"] = false;
  copied.tensors["lm_head.weight"] = tied.tensors.at("transformer.wte.weight");
  TestModel only_head = tied;  // the other name of a tied pair
  only_head.tensors["lm_head.weight"] = tied.tensors.at("transformer.wte.weight");
  only_head.tensors.erase("transformer.wte.weight");
  TestModel base = tied;
  base.tensors.clear();
  for (const auto& [name, tensor] : tied.tensors) {
    base.tensors[name.substr(std::string("transformer.").size())] = tensor;
  }
  base.tensors["h.0.attn.bias"] = {{1, 1}, {1.0f}};  // an old checkpoint's mask: ignored
  for (const TestModel& variant : {copied, only_head, base}) {
    const TempFolder folder;
    variant.save(folder.path());
    CHECK(logits_of(context, load(context, folder.path()), kModelIds) == expected);
  }
}

TEST_CASE("model: results do not depend on the number of threads") {
  const TempFolder folder;
  TestModel model;
  model.config["n_embd"] = 128;
  model.config["n_inner"] = 300;
  model.config["n_positions"] = 128;
  model.fill();
  model.save(folder.path());
  Ids ids;
  for (int i = 0; i < 100; ++i) ids.push_back(i % 99);
  for (const char* scheme : {"fp32", "llm-int8"}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 7}) {
      kvant::Context context(kvant::ContextOptions{.threads = threads});
      const auto logits = logits_of(context, load(context, folder.path(), scheme), ids);
      if (first.empty()) first = logits;
      CHECK(logits == first);
    }
  }
}

TEST_CASE("model: skipped layers stay in float") {
  kvant::Context context;
  const TempFolder folder;
  random_model().save(folder.path());
  const auto logits = [&](const char* scheme, std::vector<std::string> skip) {
    return logits_of(context, load(context, folder.path(), scheme, {}, {}, std::move(skip)),
                     kModelIds);
  };
  CHECK(logits("int8", {"*"}) == logits("fp32", {}));
  CHECK(logits("int8", {"transformer.h.0.*"}) != logits("int8", {}));
  CHECK(logits("int8", {"lm_head"}) == logits("int8", {}));
  CHECK_THROWS_AS(logits("int8", {"h.0.*"}), kvant::models::RequestError);
  CHECK(kvant::io::glob_match("*.h.?.mlp.*", "transformer.h.0.mlp.c_fc"));
  CHECK_FALSE(kvant::io::glob_match("*.h.?.mlp.*", "transformer.h.10.mlp.c_fc"));
  CHECK(kvant::io::glob_match("*a*b", "xaaxbb"));
  CHECK_FALSE(kvant::io::glob_match("", "x"));
}

TEST_CASE("model: outlier columns keep their weights after calibration") {
  // One feature is amplified by the layer norm and made small again by the weights: without its
  // own path it takes the whole int8 range.
  TestModel model = random_model(9);
  for (const std::string layer : {"0", "1"}) {
    const std::string h = "transformer.h." + layer + ".";
    model.tensors[h + "ln_1.weight"].values[5] *= 100;
    auto& w = model.tensors[h + "attn.c_attn.weight"];
    for (std::size_t r = 0; r < w.shape[0]; ++r) w.values[r * 32 + 5] /= 100;
  }
  const TempFolder folder;
  model.save(folder.path());
  kvant::Context context;
  const std::vector<float> exact = logits_of(context, load(context, folder.path()), kModelIds);
  const auto error = [&](const char* scheme, std::optional<kvant::Arithmetic> mode) {
    return largest_difference(
        logits_of(context, load(context, folder.path(), scheme, mode), kModelIds), exact);
  };
  const double plain = error("int8", {});
  const double bitsandbytes = error("llm-int8", kvant::Arithmetic::bitsandbytes);
  const double calibrated = error("llm-int8", {});
  CHECK(calibrated < plain / 2);
  CHECK(calibrated < bitsandbytes);
}

TEST_CASE("model: activations follow their formulas") {
  kvant::Context context;
  std::vector<float> x;
  for (float v = -12; v <= 12; v += 0.0625f) x.push_back(v);
  x.insert(x.end(), {-1e4f, 1e4f, 0.0f});
  const auto check = [&](kvant::models::Activation activation, auto formula) {
    std::vector<float> y = x;
    kvant::models::apply_activation(context, activation, kvant::models::Stream::fp32,
                                    {y.data(), 1, static_cast<std::int64_t>(y.size())});
    for (std::size_t i = 0; i < x.size(); ++i) {
      INFO(x[i]);
      const double expected = formula(static_cast<double>(x[i]));
      CHECK(std::fabs(static_cast<double>(y[i]) - expected) <= 1e-6 * (1 + std::fabs(expected)));
    }
  };
  using kvant::models::Activation;
  check(Activation::gelu_erf,
        [](double v) { return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))); });
  check(Activation::gelu_tanh, [](double v) {
    return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
  });
  check(Activation::quick_gelu, [](double v) { return v / (1 + std::exp(-1.702 * v)); });
  check(Activation::silu, [](double v) { return v / (1 + std::exp(-v)); });
  check(Activation::relu, [](double v) { return std::max(0.0, v); });
}

TEST_CASE("model: wrong configs and tensors are clean errors") {
  kvant::Context context;
  const auto with = [&](const std::function<void(TestModel&)>& change) {
    TestModel model = random_model();
    change(model);
    const TempFolder folder;
    model.save(folder.path());
    return code_of([&] { (void)load(context, folder.path()); });
  };
  const auto config = [&](const char* key, const nlohmann::json& value) {
    return with([&](TestModel& m) { m.config[key] = value; });
  };
  CHECK(with([](TestModel&) {}) == ErrorCode::ok);
  CHECK(config("n_head", 5) == ErrorCode::invalid_file);
  CHECK(config("n_head", 0) == ErrorCode::invalid_file);
  CHECK(config("n_embd", -32) == ErrorCode::invalid_file);
  CHECK(config("n_embd", 1e300) == ErrorCode::invalid_file);
  CHECK(config("n_layer", "2") == ErrorCode::invalid_file);
  CHECK(config("multi_query", 1) == ErrorCode::invalid_file);
  CHECK(config("layer_norm_epsilon", -1) == ErrorCode::invalid_file);
  CHECK(config("activation_function", "mish") == ErrorCode::unsupported);
  CHECK(config("activation_function", 3) == ErrorCode::invalid_file);
  CHECK(config("model_type", "gpt3") == ErrorCode::unsupported);
  CHECK(config("add_cross_attention", true) == ErrorCode::unsupported);
  CHECK(config("quantization_config", {{"quant_method", "exl2"}}) == ErrorCode::unsupported);
  CHECK(config("n_inner", nullptr) == ErrorCode::shape_mismatch);  // 4 H, and the file has 37
  CHECK(config("n_positions", 41) == ErrorCode::shape_mismatch);
  CHECK(config("vocab_size", 1 << 28) == ErrorCode::shape_mismatch);
  CHECK(config("something_else", {1, 2}) == ErrorCode::ok);
  CHECK(config("tie_word_embeddings", false) == ErrorCode::invalid_file);  // no lm_head
  CHECK(config("n_layer", 1) == ErrorCode::shape_mismatch);  // the file has two blocks
  CHECK(with([](TestModel& m) { m.config.erase("model_type"); }) == ErrorCode::invalid_file);
  CHECK(with([](TestModel& m) { m.tensors.erase("transformer.h.1.ln_2.bias"); }) ==
        ErrorCode::invalid_file);
  TestModel aliases = random_model();
  aliases.config["hidden_size"] = 32;
  aliases.config["num_attention_heads"] = 4;
  aliases.config["num_hidden_layers"] = 2;
  aliases.config["max_position_embeddings"] = 40;
  for (const char* key : {"n_embd", "n_head", "n_layer", "n_positions"}) aliases.config.erase(key);
  const kvant::models::Config parsed =
      kvant::models::parse_config(aliases.config.dump(), "config.json");
  CHECK(parsed.n_embd == 32);
  CHECK(parsed.n_positions == 40);
  CHECK(kvant::models::parse_config(R"({"model_type": "gpt_bigcode"})", "config.json").n_inner ==
        3072);
}

TEST_CASE("model: the limits of positions and vocabulary") {
  kvant::Context context;
  const TempFolder folder;
  random_model().save(folder.path());
  const kvant::models::Model model = load(context, folder.path());
  const Ids full(40, 7);
  CHECK(code_of([&] { (void)logits_of(context, model, full); }) == ErrorCode::ok);
  CHECK(code_of([&] { (void)logits_of(context, model, Ids(41, 7)); }) == ErrorCode::out_of_range);
  CHECK(code_of([&] { (void)logits_of(context, model, {99}); }) == ErrorCode::out_of_range);
  CHECK(code_of([&] { (void)logits_of(context, model, {-1}); }) == ErrorCode::out_of_range);
  // The id after the last position can still be predicted, but no further one.
  CHECK(kvant::models::generate(context, model, full, 10).size() == 1);
  CHECK(kvant::models::generate(context, model, Ids(38, 7), 10).size() <= 3);
  CHECK(code_of([&] { (void)kvant::models::generate(context, model, {}, 1); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([&] { (void)kvant::models::evaluate(context, model, full, 41); }) ==
        ErrorCode::out_of_range);
  CHECK(code_of([&] { (void)kvant::models::evaluate(context, model, Ids{1}, 8); }) ==
        ErrorCode::invalid_argument);
}
