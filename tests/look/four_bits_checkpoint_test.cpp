// 4-bit checkpoints of bitsandbytes: what kvant writes is what transformers and bitsandbytes wrote.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/bitsandbytes.hpp"
#include "kvant/float16.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::WeightFormat;
using kvant::io::Checkpoint;
using kvant::io::QuantizeCheckpointOptions;
using kvant::test::code_of;
using kvant::test::config_of;
using kvant::test::data_path;
using kvant::test::read_bytes;
using kvant::test::TempFolder;

std::string text_of(const kvant::io::TensorView& view) {
  return {reinterpret_cast<const char*>(view.data.data()), view.data.size()};
}

/// A llama layer of these weights, [outputs, inputs].
template <class T>
void write_model(const fs::path& folder, DType dtype, std::uint64_t outputs, std::uint64_t inputs,
                 const std::vector<T>& weights) {
  fs::create_directories(folder);
  kvant::io::SafeTensorsWriter writer;
  writer.add("model.layers.0.mlp.up_proj.weight", dtype, {outputs, inputs},
             std::as_bytes(std::span(weights)));
  writer.write(folder / "model.safetensors");
  std::ofstream(folder / "config.json") << R"({"model_type": "llama"})";
}

template <class T = float>
std::vector<T> some_weights(std::uint64_t count) {
  std::vector<T> weights;
  unsigned state = 7;
  for (std::uint64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    weights.push_back(T(static_cast<float>(static_cast<int>(state >> 8) % 2001 - 1000) / 3000.0f));
  }
  return weights;
}

const std::string kLayer = "model.layers.0.mlp.up_proj";

}  // namespace

TEST_CASE("fp4 without double quantization: bitsandbytes' file, byte for byte") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  kvant::io::quantize_checkpoint(data_path("checkpoints/fp32"), out,
                                 {.scheme = WeightFormat::fp4, .nested = false});
  const fs::path golden = data_path("checkpoints/bnb_fp4");
  CHECK(read_bytes(out / "model.safetensors") == read_bytes(golden / "model.safetensors"));
  nlohmann::json wanted = config_of(golden);
  wanted["quantization_config"]["llm_int8_skip_modules"] = {"lm_head"};
  CHECK(config_of(out) == wanted);
}

TEST_CASE("nf4 with double quantization: bitsandbytes' tensors, byte for byte") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  kvant::io::quantize_checkpoint(data_path("checkpoints/fp32"), out, {.scheme = WeightFormat::nf4});
  const Checkpoint golden(data_path("checkpoints/bnb_nf4_double"));
  const Checkpoint mine(out);
  REQUIRE(mine.tensors().size() == golden.tensors().size());
  int states = 0;
  for (const kvant::io::TensorInfo* info : golden.tensors()) {
    INFO(info->name);
    REQUIRE(mine.contains(info->name));
    const auto a = mine.tensor(info->name);
    const auto b = golden.tensor(info->name);
    CHECK(a.info->dtype == b.info->dtype);
    if (info->name.find("quant_state") != std::string::npos) {
      ++states;
      std::string text = text_of(a);
      text.erase(text.find_last_not_of(' ') + 1);  // room for the digits of any offset
      CHECK(text == text_of(b));
      continue;
    }
    CHECK(a.info->shape == b.info->shape);
    CHECK(std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end()));
  }
  CHECK(states == 8);
  nlohmann::json wanted = config_of(data_path("checkpoints/bnb_nf4_double"));
  wanted["quantization_config"]["llm_int8_skip_modules"] = {"lm_head"};
  wanted["quantization_config"]["bnb_4bit_compute_dtype"] = "float32";
  CHECK(config_of(out) == wanted);
}

namespace {

/// The one layer's codes as LayerReader unpacks them, 7 rows at a time.
void check_codes(const Checkpoint& stored, const std::vector<std::uint8_t>& packed) {
  auto layers = kvant::io::find_linear_layers(stored);
  std::erase_if(layers, [](const auto& layer) { return !layer.quantized(); });
  REQUIRE(layers.size() == 1);
  const kvant::io::LayerReader reader(stored, layers[0]);
  CHECK(reader.codes().has_value());
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(layers[0].elements()));
  for (std::int64_t row = 0; row < layers[0].outputs; row += 7) {
    reader.read_codes(row, std::min<std::int64_t>(7, layers[0].outputs - row),
                      codes.data() + row * layers[0].inputs);
  }
  std::size_t different = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint8_t byte = packed[i / 2];
    different += codes[i] != (i % 2 == 0 ? byte >> 4 : byte & 15) ? 1u : 0u;
  }
  CHECK(different == 0);
}

}  // namespace

TEST_CASE("4-bit blocks that cross rows, odd sizes, every block size, any number of threads") {
  const std::uint64_t outputs = 301;
  const std::uint64_t inputs = 77;  // an odd number of codes
  const auto weights = some_weights(outputs * inputs);
  const TempFolder folder;
  write_model(folder.path() / "model", DType::float32, outputs, inputs, weights);
  for (const WeightFormat format : {WeightFormat::nf4, WeightFormat::fp4}) {
    for (const std::int64_t block : {32, 64, 256, 4096}) {
      for (const bool nested : {false, true}) {
        INFO(to_string(format) << " blocks of " << block << (nested ? " nested" : ""));
        const fs::path out = folder.path() / "out";
        QuantizeCheckpointOptions options{.scheme = format, .block = block, .nested = nested};
        options.job.force = true;
        options.job.threads = 3;
        kvant::io::quantize_checkpoint(folder.path() / "model", out, options);
        const auto whole = kvant::bitsandbytes::quantize_4bit(
            kvant::MatrixView<const float>(weights.data(), 301, 77), format, block);
        const Checkpoint stored(out);
        CHECK(stored.values<std::uint8_t>(kLayer + ".weight") == whole.codes);
        if (nested) {
          const auto absmax = kvant::bitsandbytes::nest_absmax(whole.absmax);
          CHECK(stored.values<std::uint8_t>(kLayer + ".weight.absmax") == absmax.codes);
          CHECK(stored.values<float>(kLayer + ".weight.nested_absmax") == absmax.absmax);
        } else {
          CHECK(stored.values<float>(kLayer + ".weight.absmax") == whole.absmax);
        }
        const auto verdict = kvant::look::verify_checkpoint(out);
        INFO(to_text(verdict));
        CHECK(verdict.findings.empty());
        check_codes(stored, whole.codes);
      }
    }
  }
}

TEST_CASE("4-bit weights whose absmax is not finite are not read") {
  const TempFolder folder;
  write_model(folder.path() / "model", DType::float32, 64, 64, some_weights(64 * 64));
  kvant::io::quantize_checkpoint(folder.path() / "model", folder.path() / "out",
                                 {.scheme = WeightFormat::nf4, .nested = false});
  const Checkpoint stored(folder.path() / "out");
  kvant::test::CheckpointBuilder builder;
  for (const kvant::io::TensorInfo* info : stored.tensors()) {
    if (info->dtype == DType::uint8) {
      builder.add<std::uint8_t>(info->name, info->shape, stored.values<std::uint8_t>(info->name));
      continue;
    }
    if (info->dtype != DType::float32) continue;
    std::vector<float> values = stored.values<float>(info->name);
    if (info->name.ends_with(".absmax")) values[5] = std::nanf("");
    builder.add<float>(info->name, info->shape, values);
  }
  const fs::path model = builder.write();
  const Checkpoint file(model);
  const auto layers = kvant::io::find_linear_layers(file);
  const auto layer =
      std::find_if(layers.begin(), layers.end(), [](const auto& one) { return one.quantized(); });
  REQUIRE(layer != layers.end());
  std::string message;
  CHECK(kvant::test::code_of([&] { const kvant::io::LayerReader reader(file, *layer); },
                             &message) == kvant::ErrorCode::invalid_file);
  INFO(message);
  CHECK(message.find("the absmax of block 5 is nan") != std::string::npos);
}

TEST_CASE("4-bit weights of fp16 and bf16 come back rounded to their type") {
  const TempFolder folder;
  const auto check = [&](auto one, DType dtype) {
    using T = decltype(one);
    const fs::path model = folder.path() / std::string(to_string(dtype));
    write_model(model, dtype, 96, 80, some_weights<T>(96 * 80));
    const fs::path out = model.string() + "-nf4";
    kvant::io::quantize_checkpoint(model, out, {.scheme = WeightFormat::nf4});
    const Checkpoint stored(out);
    const auto layers = kvant::io::find_linear_layers(stored, kvant::io::model_hints_of(out));
    REQUIRE(layers.size() == 1);
    std::vector<float> values(96 * 80);
    kvant::io::LayerReader(stored, layers[0]).read(0, 96, values.data());
    for (const float value : values) CHECK(static_cast<float>(T(value)) == value);
    CHECK(text_of(stored.tensor(kLayer + ".weight.quant_state.bitsandbytes__nf4"))
              .find("\"dtype\": \"" + std::string(to_string(dtype)) + "\"") != std::string::npos);
    CHECK(kvant::look::report_checkpoint(model, out).total.sqnr_db > 15);
  };
  check(kvant::float16(), DType::float16);
  check(kvant::bfloat16(), DType::bfloat16);
}

TEST_CASE("what cannot be written in 4 bits is refused, and nothing is written") {
  const TempFolder folder;
  const fs::path model = folder.path() / "model";
  const fs::path out = folder.path() / "out";
  auto weights = some_weights(64 * 64);
  write_model(model, DType::float32, 64, 64, weights);
  const auto refused = [&](const QuantizeCheckpointOptions& options, std::string& message) {
    return code_of([&] { kvant::io::quantize_checkpoint(model, out, options); }, &message);
  };
  std::string message;
  for (const std::int64_t block : {16, 48, 8192, -64}) {
    CHECK(refused({.scheme = WeightFormat::nf4, .block = block}, message) ==
          ErrorCode::invalid_argument);
    CHECK(message.find("blocks of " + std::to_string(block)) != std::string::npos);
  }
  CHECK(refused({.scheme = WeightFormat::int8_row, .block = 64}, message) ==
        ErrorCode::invalid_argument);
  CHECK(message.find("int8 has no choice of a block size (64") != std::string::npos);
  CHECK(refused({.scheme = WeightFormat::nf4,
                 .rules = {{"*up*", WeightFormat::fp4},
                           {"*", WeightFormat::nf4},
                           {"*up*", WeightFormat::nf4}}},
                message) == ErrorCode::ok);
  fs::remove_all(out);
  for (const float bad : {std::nanf(""), INFINITY}) {
    weights[5 * 64 + 3] = bad;
    write_model(model, DType::float32, 64, 64, weights);
    for (const bool nested : {false, true}) {
      CHECK(refused({.scheme = WeightFormat::fp4, .nested = nested}, message) ==
            ErrorCode::not_finite);
      CHECK(message.find("output 5 ") != std::string::npos);
      CHECK_FALSE(fs::exists(out));
    }
  }
}
