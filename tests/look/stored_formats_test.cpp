// Every form that kvant writes goes through everything that knows of forms: quantize, inspect,
// verify, report, select and dequantize agree about it. A new form is tested by being in the list.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/inspect.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/select.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::io::Checkpoint;
using kvant::io::StoredLayer;
using kvant::io::WeightScheme;
using kvant::test::data_path;
using kvant::test::TempFolder;

/// [outputs, inputs], whichever way the layer is stored.
std::vector<float> values_of(const Checkpoint& checkpoint, const StoredLayer& layer) {
  std::vector<float> values(static_cast<std::size_t>(layer.elements()));
  kvant::io::LayerReader(checkpoint, layer).read(0, layer.outputs, values.data());
  return values;
}

std::vector<StoredLayer> quantizable_layers(const fs::path& model, const Checkpoint& checkpoint) {
  std::vector<StoredLayer> layers =
      kvant::io::find_linear_layers(checkpoint, kvant::io::model_hints_of(model));
  std::erase_if(layers, [](const StoredLayer& layer) { return layer.stays_float; });
  return layers;
}

void check(const fs::path& model, WeightScheme scheme) {
  INFO(model << " in " << to_string(scheme));
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  const fs::path back = folder.path() / "back";
  const auto summary = kvant::io::quantize_checkpoint(model, out, {.scheme = scheme});

  const Checkpoint stored(out);
  const std::vector<StoredLayer> layers = quantizable_layers(out, stored);
  REQUIRE(layers.size() == quantizable_layers(model, Checkpoint(model)).size());
  for (const StoredLayer& layer : layers) {
    CHECK(layer.format == scheme.format);
    CHECK(layer.scales > 0);
  }
  const auto verdict = kvant::look::verify_checkpoint(out);
  INFO(to_text(verdict));
  CHECK(verdict.findings.empty());

  // The sizes that were foretold are those that came.
  const auto before = kvant::look::inspect_checkpoint(model);
  const auto after = kvant::look::inspect_checkpoint(out);
  CHECK(after.stored.total() == summary.bytes_after);
  const auto foretold = std::find_if(before.quantized.begin(), before.quantized.end(),
                                     [&](const auto& row) { return row.first == scheme.format; });
  REQUIRE(foretold != before.quantized.end());
  CHECK(foretold->second.total() == after.stored.total());
  CHECK(foretold->second.scales == after.stored.scales);

  // Selecting tries the very bytes that quantizing writes.
  const auto report = kvant::look::report_checkpoint(model, out);
  const int bits = describe(*scheme.format).bits;
  CHECK(report.total.sqnr_db > (bits > 3 ? 15 : bits == 3 ? 9 : 2));
  const auto plan =
      kvant::look::select_schemes(model, kvant::look::parse_budget("1dB"), {.quantized = scheme});
  REQUIRE(plan.layers.size() == report.layers.size());
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    CHECK(plan.layers[i].layer.name == report.layers[i].before.name);
    CHECK(plan.layers[i].choices[0].scheme == scheme);
    CHECK(plan.layers[i].choices[0].bytes == report.layers[i].bytes_after);
    CHECK(plan.layers[i].choices[0].squared_error ==
          Approx(report.layers[i].squared_error).epsilon(1e-6));
  }

  kvant::io::dequantize_checkpoint(out, back, {.dtype = kvant::DType::float32});
  CHECK(kvant::look::verify_checkpoint(back).findings.empty());
  const Checkpoint floats(back);
  const std::vector<StoredLayer> float_layers = quantizable_layers(back, floats);
  REQUIRE(float_layers.size() == layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    CHECK(float_layers[i].name == layers[i].name);
    CHECK(float_layers[i].format == kvant::WeightFormat::float32);
    CHECK(values_of(floats, float_layers[i]) == values_of(stored, layers[i]));
  }
  // Quantized already, with the layer in the message.
  CHECK(kvant::test::code_of([&] {
          kvant::io::quantize_checkpoint(out, folder.path() / "twice", {.scheme = scheme});
        }) == kvant::ErrorCode::unsupported);
}

}  // namespace

TEST_CASE("every form that is written is known to everything that looks at checkpoints") {
  int forms = 0;
  for (const WeightScheme scheme : kvant::io::weight_schemes()) {
    CHECK(kvant::io::weight_scheme_from_name(to_string(scheme)) == scheme);
    if (!scheme.quantizes()) continue;
    ++forms;
    check(data_path("checkpoints/fp32"), scheme);
    check(data_path("architectures/gpt2/float"), scheme);  // stored as [in, out]
  }
  CHECK(forms >= 2);
  CHECK(kvant::io::weight_scheme_from_name("keep") == WeightScheme::keep);
  CHECK_FALSE(kvant::io::weight_scheme_from_name("q4_k").has_value());
  CHECK(kvant::io::weight_scheme_names().find("llm-int8, int8") == 0);
}

TEST_CASE("a scheme that quantizes nothing, or that is only read, is refused") {
  const std::string model = data_path("checkpoints/fp32");
  const TempFolder folder;
  for (const kvant::WeightFormatInfo& info : kvant::weight_format_table()) {
    if (info.is_float() || kvant::io::weight_scheme_from_name(info.name)) continue;
    std::string message;
    CHECK(kvant::test::code_of(
              [&] {
                kvant::io::quantize_checkpoint(model, folder.path() / "x", {.scheme = info.format});
              },
              &message) == kvant::ErrorCode::unsupported);
    CHECK(message.find(std::string(info.name) + ", but in llm-int8, int8") != std::string::npos);
  }
  CHECK(kvant::test::code_of([&] {
          (void)kvant::look::select_schemes(model, kvant::look::parse_budget("40dB"),
                                            {.quantized = WeightScheme::fp16});
        }) == kvant::ErrorCode::invalid_argument);
}

TEST_CASE("int8-group: groups of 32, 64 and 128, told by the number of scales") {
  const fs::path model = data_path("checkpoints/fp32");
  const TempFolder folder;
  double last = 1e9;
  for (const std::int64_t group : {32, 64, 128}) {
    INFO(group);
    const fs::path out = folder.path() / std::to_string(group);
    kvant::io::quantize_checkpoint(model, out,
                                   {.scheme = kvant::WeightFormat::int8_group, .block = group});
    const auto verdict = kvant::look::verify_checkpoint(out);
    INFO(to_text(verdict));
    CHECK(verdict.findings.empty());
    const Checkpoint stored(out);
    for (const StoredLayer& layer : quantizable_layers(out, stored)) {
      const auto codes = kvant::io::LayerReader(stored, layer).codes();
      REQUIRE(codes);
      CHECK(static_cast<std::int64_t>(codes->scales.size()) ==
            layer.outputs * ((layer.inputs + group - 1) / group));
    }
    const double sqnr = kvant::look::report_checkpoint(model, out).total.sqnr_db;
    CHECK(sqnr < last);
    last = sqnr;
    // The tensors say how large groups are; a config that says something else is not believed.
    std::string config = kvant::test::read_text(out / "config.json");
    const std::string said = "\"group_size\": " + std::to_string(group);
    const std::size_t at = config.find(said);
    REQUIRE(at != std::string::npos);
    folder.write(std::to_string(group) + "/config.json",
                 config.replace(at, said.size(), "\"group_size\": 4096"));
    std::string message;
    CHECK(kvant::test::code_of(
              [&] { kvant::io::dequantize_checkpoint(out, folder.path() / "back"); }, &message) ==
          kvant::ErrorCode::invalid_file);
    CHECK(message.find("config.json says 4096") != std::string::npos);
  }
  for (const auto& [group, part] : {std::pair<std::int64_t, const char*>{48, "groups of 48 inputs"},
                                    {4096, "would be one group of 4096"}}) {
    std::string message;
    const std::int64_t size = group;
    CHECK(kvant::test::code_of(
              [&] {
                kvant::io::quantize_checkpoint(
                    model, folder.path() / "no",
                    {.scheme = kvant::WeightFormat::int8_group, .block = size});
              },
              &message) != kvant::ErrorCode::ok);
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  }
}

TEST_CASE("codes of few bits with one group for each output (a block of -1)") {
  const fs::path model = data_path("checkpoints/fp32");
  const TempFolder folder;
  struct Case {
    kvant::WeightFormat format;
    const char* method;
  };
  for (const Case& c : {Case{kvant::WeightFormat::int4_group, "gptq"},
                        {kvant::WeightFormat::int4_group, "awq"},
                        {kvant::WeightFormat::int3_group, "gptq"},
                        {kvant::WeightFormat::int2_group, "gptq"}}) {
    INFO(to_string(c.format) << " " << c.method);
    const fs::path out = folder.path() / (std::string(to_string(c.format)) + c.method);
    kvant::io::quantize_checkpoint(model, out,
                                   {.scheme = c.format, .block = -1, .quant_method = c.method});
    const auto config = nlohmann::json::parse(kvant::test::read_text(out / "config.json"));
    CHECK(config.at("quantization_config").at("group_size") == -1);
    const auto verdict = kvant::look::verify_checkpoint(out);
    INFO(to_text(verdict));
    CHECK(verdict.findings.empty());
    const Checkpoint file(out);
    for (const StoredLayer& layer : quantizable_layers(out, file)) {
      const auto outputs = static_cast<std::uint64_t>(layer.outputs);
      CHECK(file.find(layer.name + ".scales")->shape == std::vector<std::uint64_t>{1, outputs});
      const auto codes = kvant::io::LayerReader(file, layer).codes();
      REQUIRE(codes);
      CHECK(codes->block == layer.inputs);
    }
    if (c.format == kvant::WeightFormat::int4_group) {
      CHECK(kvant::look::report_checkpoint(model, out).total.sqnr_db > 16);
    }
  }
  // Where a scale for each output is another scheme, or blocks are of the flattened weight.
  for (const auto& [format, says] :
       {std::pair{kvant::WeightFormat::int8_group, "is what the scheme int8 has"},
        {kvant::WeightFormat::nf4, "blocks of -1 weights"},
        {kvant::WeightFormat::mxfp4, "mxfp4 has blocks of 32, not of -1"}}) {
    const kvant::io::QuantizeCheckpointOptions options = {.scheme = format, .block = -1};
    std::string message;
    CHECK(kvant::test::code_of(
              [&] { kvant::io::quantize_checkpoint(model, folder.path() / "none", options); },
              &message) == kvant::ErrorCode::invalid_argument);
    INFO(message);
    CHECK(message.find(says) != std::string::npos);
  }
}
