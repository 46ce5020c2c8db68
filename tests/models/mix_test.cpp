// Formats by layer: their names and sizes, plans as files, sensitivities of layers, and the mixes
// that are made by them.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "kvant/models/mix.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using kvant::Context;
using kvant::ErrorCode;
using kvant::WeightFormat;
using kvant::models::Config;
using kvant::models::FormatPlan;
using kvant::models::FormatTrials;
using kvant::models::layer_format_from_name;
using kvant::models::LayerFormat;
using kvant::models::MeasureOptions;
using kvant::models::Mix;
using kvant::models::Sensitivities;
using kvant::models::SensitivityMethod;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::config_in;
using kvant::test::message_of;
using kvant::test::TempFolder;
using Windows = std::vector<std::vector<TokenId>>;

const fs::path kLlamaBias = kvant::test::kFamilies / "llama_bias";
const LayerFormat kInt4{WeightFormat::int4_group, 32};
const LayerFormat kInt2{WeightFormat::int2_group, 32};
const LayerFormat kHalf{WeightFormat::float16, 0};

Windows mix_windows(const Config& config) {
  std::mt19937 random(11);
  Windows windows(3, std::vector<TokenId>(20));
  for (auto& window : windows) {
    for (TokenId& id : window) {
      id = static_cast<TokenId>(random() % static_cast<std::uint64_t>(config.vocab_size));
    }
  }
  return windows;
}

std::vector<TokenId> joined(const Windows& windows) {
  std::vector<TokenId> ids;
  for (const auto& window : windows) ids.insert(ids.end(), window.begin(), window.end());
  return ids;
}

void write(const fs::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

}  // namespace

TEST_CASE("layer formats: names, and the bytes that packed weights have") {
  for (const LayerFormat& format : kvant::models::default_mix_formats()) {
    CHECK(layer_format_from_name(to_string(format)) == format);
  }
  CHECK(layer_format_from_name("int4") == LayerFormat{WeightFormat::int4_group, 64});
  CHECK(layer_format_from_name("fp8") == LayerFormat{WeightFormat::fp8_row, 0});
  for (const char* name :
       {"", "int4:", "int4:0", "int4:33", "int4:64x", "int4:-32", "fp16:32", "nf4:96", "nf4:8192",
        "q4_k", "q4_1:32", "int5", "int4:99999999999999999999"}) {
    CAPTURE(name);
    CHECK(!layer_format_from_name(name));
  }
  std::vector<float> values(48 * 200);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  const kvant::MatrixView<const float> weights(values.data(), 48, 200);
  for (const char* name : {"int4:32", "int3:64", "nf4:64", "int8-group:128", "fp8", "int8", "fp16",
                           "fp8-block", "mxfp4"}) {  // (blocks of GGUF are packed by other means)
    CAPTURE(name);
    const LayerFormat format = *layer_format_from_name(name);
    const auto packed =
        kvant::PackedWeights::quantize(weights, format.format, {.block = format.group});
    const kvant::WeightFormatInfo& info = describe(format.format);
    const std::int64_t zeros =
        info.zero_points ? (info.scales(48, 200, packed.block()) * info.bits + 7) / 8 : 0;
    CHECK(bytes_of(format, 48, 200) == packed.stored_bytes() + static_cast<std::size_t>(zeros));
  }
  // 4 bits, and 16 of the scale and 4 of the zero point for 64 weights: 4.3125.
  CHECK(kvant::models::bytes_of({WeightFormat::int4_group, 64}, 576, 576) ==
        576 * 576 / 16 * 69 / 8);
}

TEST_CASE("format plans: files, and what a checkpoint holds of them") {
  const TempFolder temp;
  const fs::path file = temp.path() / "plan.json";
  FormatPlan plan;
  plan.layers = {{"model.layers.0.mlp.up_proj", kInt4}, {"model.layers.0.mlp.down_proj", kHalf}};
  plan.arithmetic = kvant::Arithmetic::exact;
  plan.notes = {{"budget", "4.5bits"}};
  write(file, to_json(plan));
  const FormatPlan back = kvant::models::read_format_plan(file);
  CHECK(back.layers == plan.layers);
  CHECK(back.arithmetic == plan.arithmetic);
  CHECK(back.notes == plan.notes);
  const auto options = to_quantize_options(plan);
  CHECK(options.scheme == kvant::io::WeightScheme::keep);
  CHECK(options.block == 32);
  CHECK(options.rules.size() == 2);
  plan.layers["model.layers.1.mlp.up_proj"] = kInt2;
  CHECK(code_of([&] { (void)to_quantize_options(plan); }) == ErrorCode::unsupported);
  CHECK_THAT(message_of([&] { (void)to_quantize_options(plan); }, ErrorCode::unsupported),
             Contains("kvant run MODEL --plan"));
  for (const char* text :
       {"", "{", "[]", "{}", R"({"kvant_format_plan": 2, "layers": {"a": "int4:64"}})",
        R"({"kvant_format_plan": 1})", R"({"kvant_format_plan": 1, "layers": {}})",
        R"({"kvant_format_plan": 1, "layers": ["int4"]})",
        R"({"kvant_format_plan": 1, "layers": {"a": 4}})",
        R"({"kvant_format_plan": 1, "layers": {"a": "int4:7"}})",
        R"({"kvant_format_plan": 1, "layers": {"a": "int4", "a": "int3"}})",
        R"({"kvant_format_plan": 1, "arithmetic": 1, "layers": {"a": "int4"}})"}) {
    CAPTURE(text);
    write(file, text);
    CHECK_THROWS_AS(kvant::models::read_format_plan(file), kvant::Error);
  }
}

TEST_CASE("sensitivities: what a model loses with one layer in another format, by every method") {
  Context context;
  const Config config = config_in(kLlamaBias);
  FormatTrials trials(context, kLlamaBias, config);
  const std::vector<std::string> names = trials.layers();
  REQUIRE(names.size() == 7 * static_cast<std::size_t>(config.n_layer));
  const Windows windows = mix_windows(config);
  const std::vector<TokenId> ids = joined(windows);
  MeasureOptions options;
  options.formats = {kInt2, kInt4, kHalf};
  options.reference = kInt4;
  options.method = SensitivityMethod::loss;
  const Sensitivities loss = trials.measure(windows, options);
  const double floats = trials.evaluate(ids, 20, {}).nll;
  CHECK(loss.tokens == 57);
  CHECK(loss.loss == Approx(floats).margin(1e-5));
  CHECK(loss.runs == 1 + 3 * static_cast<std::int64_t>(names.size()));
  for (const std::size_t i : {std::size_t{0}, names.size() / 2, names.size() - 1}) {
    for (std::size_t f = 0; f < options.formats.size(); ++f) {
      std::vector<LayerFormat> formats(names.size());
      formats[i] = options.formats[f];
      CAPTURE(names[i], f);
      CHECK(loss.layers[i].name == names[i]);
      CHECK(loss.layers[i].formats[f].loss ==
            Approx(trials.evaluate(ids, 20, formats).nll - floats).margin(2e-5));
    }
  }
  options.method = SensitivityMethod::divergence;
  const Sensitivities divergence = trials.measure(windows, options);
  CHECK(divergence.runs == 1 + static_cast<std::int64_t>(names.size()));
  options.method = SensitivityMethod::output_error;
  const Sensitivities error = trials.measure(windows, options);
  CHECK(error.runs == 2);
  double sum = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    CAPTURE(names[i]);
    const auto& d = divergence.layers[i].formats;
    const auto& e = error.layers[i].formats;
    CHECK(d[0].loss > d[1].loss);
    CHECK(d[1].loss > d[2].loss);
    CHECK(d[2].loss >= 0);
    CHECK(d[1].measured);
    CHECK(d[0].output_error == e[0].output_error);
    CHECK(e[0].loss / e[1].loss == Approx(e[0].output_error / e[1].output_error));
    CHECK(d[0].output_error == loss.layers[i].formats[0].output_error);
    sum += e[1].loss;
  }
  CHECK(sum > 0);  // the divergence of the model with all layers in the reference format
  // The model is as it was.
  CHECK(trials.evaluate(ids, 20, {}).nll == floats);
}

TEST_CASE("mixes: what kvant run holds by the plan is what was measured; budgets are kept") {
  Context context;
  const TempFolder temp;
  const Config config = config_in(kLlamaBias);
  FormatTrials trials(context, kLlamaBias, config);
  const Windows windows = mix_windows(config);
  const std::vector<TokenId> ids = joined(windows);
  MeasureOptions options;
  options.formats = {
      kInt2, {WeightFormat::int3_group, 32}, kInt4, {WeightFormat::int8_group, 32}, kHalf};
  options.reference = kInt4;
  const Sensitivities found = trials.measure(windows, options);
  const std::uint64_t smallest = smallest_bytes(found);
  const std::uint64_t useful = useful_bytes(found);
  CHECK(smallest == uniform_mix(found, 0).bytes);
  CHECK(useful == uniform_mix(found, 4).bytes);
  double before = HUGE_VAL;
  for (std::uint64_t bytes = smallest; bytes <= useful; bytes += (useful - smallest) / 7) {
    const Mix mix = best_mix(found, bytes);
    CHECK(mix.bytes <= bytes);
    CHECK(mix.gap <= 1.001e-3);
    CHECK(mix.loss <= before * 1.001);
    before = mix.loss;
    // The other way round: the loss that these bytes buy costs no more of them.
    CHECK(smallest_mix(found, mix.loss).bytes <= mix.bytes);
  }
  const Mix mix = best_mix(found, (smallest + uniform_mix(found, 2).bytes) / 2);
  const std::vector<LayerFormat> formats = formats_of(found, mix);
  CHECK(std::count(formats.begin(), formats.end(), formats.front()) <
        static_cast<std::ptrdiff_t>(formats.size()));
  write(temp.path() / "plan.json", to_json(plan_of(found, mix)));
  const FormatPlan plan = kvant::models::read_format_plan(temp.path() / "plan.json");
  kvant::models::LoadOptions load;
  load.formats = plan.layers;
  load.plan = make_plan(config, {.layer_formats = true, .arithmetic = plan.arithmetic});
  const auto model = load_model(context, kLlamaBias, config, load);
  CHECK(kvant::models::evaluate(context, model, ids, 20).nll ==
        Approx(trials.evaluate(ids, 20, formats).nll).margin(1e-6));
  load.formats["model.layers.9.mlp.up_proj"] = kInt4;
  CHECK_THAT(message_of([&] { (void)load_model(context, kLlamaBias, config, load); },
                        ErrorCode::invalid_argument),
             Contains("model.layers.9.mlp.up_proj") && Contains("of another model"));

  const auto floats = trials.evaluate(ids, 20, {});
  const double most = floats.perplexity * 1.3;
  const auto below = mix_below(trials, found, ids, 20, floats, most);
  CHECK(below.result.perplexity <= most);
  CHECK(below.mix.bytes < useful);
  CHECK(code_of([&] {
          (void)mix_below(trials, found, ids, 20, floats, floats.perplexity * 0.9);
        }) == ErrorCode::invalid_argument);
  CHECK_THAT(message_of([&] { (void)best_mix(found, smallest - 1); }, ErrorCode::invalid_argument),
             Contains(std::to_string(smallest)));
}

TEST_CASE("sensitivities: what cannot be measured says so") {
  Context context;
  const Config config = config_in(kLlamaBias);
  FormatTrials trials(context, kLlamaBias, config);
  const auto code = [&](const Windows& windows, const MeasureOptions& options = {}) {
    return code_of([&] { (void)trials.measure(windows, options); });
  };
  CHECK(code({}) == ErrorCode::invalid_argument);
  CHECK(code({{1}}) == ErrorCode::invalid_argument);
  CHECK(code({{1, 2}}, {.formats = {{WeightFormat::q4_1}}}) == ErrorCode::invalid_argument);
  CHECK(code({{1, -5}}) == ErrorCode::out_of_range);
  const std::atomic<bool> cancelled = true;
  CHECK(code({{1, 2}}, {.cancel = &cancelled}) == ErrorCode::cancelled);
  CHECK(code_of([&] { (void)trials.evaluate({}, 20, {}); }) == ErrorCode::invalid_argument);
  const fs::path encoder = fs::path(KVANT_TEST_DATA) / "encoders/bert_masked";
  CHECK(code_of([&] { FormatTrials(context, encoder, config_in(encoder)); }) ==
        ErrorCode::unsupported);
}
