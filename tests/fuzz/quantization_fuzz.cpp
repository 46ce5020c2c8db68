// Any bytes as the config.json of a folder that holds a layer in each form whose reading depends on
// quantization_config (GPTQ, AWQ, compressed-tensors, fp8, bitsandbytes): errors, or layers that
// can be read.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "kvant/float8.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/look/verify.hpp"
#include "support/checkpoint_builder.hpp"

namespace {

using kvant::test::CheckpointBuilder;

/// Layers of words, halves and e4m3, in one file.
void add_layers(CheckpointBuilder& builder) {
  const auto words = [](std::size_t count) {
    std::vector<std::int32_t> values;
    for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<std::int32_t>(i * 40503));
    return values;
  };
  const std::vector<kvant::float16> halves(64, kvant::float16(0.5f));
  const auto scales = [&](std::size_t count) {
    return std::vector<kvant::float16>(halves.begin(),
                                       halves.begin() + static_cast<std::ptrdiff_t>(count));
  };
  builder.add<std::int32_t>("gptq.qweight", {8, 8}, words(64));
  builder.add<std::int32_t>("gptq.qzeros", {2, 1}, words(2));
  builder.add<kvant::float16>("gptq.scales", {2, 8}, scales(16));
  builder.add<std::int32_t>("awq.qweight", {64, 1}, words(64));
  builder.add<std::int32_t>("awq.qzeros", {2, 1}, words(2));
  builder.add<kvant::float16>("awq.scales", {2, 8}, scales(16));
  builder.add<std::int32_t>("gemv.qweight", {8, 8}, words(64));
  builder.add<std::int32_t>("gemv.qzeros", {8, 1}, words(8));
  builder.add<kvant::float16>("gemv.scales", {8, 8}, scales(64));
  builder.add<std::int32_t>("packed.weight_packed", {8, 8}, words(64));
  builder.add<std::int64_t>("packed.weight_shape", {2}, {8, 64});
  builder.add<kvant::float16>("packed.weight_scale", {8, 2}, scales(16));
  const std::vector<kvant::float8_e4m3fn> elements(60 * 70);
  builder.add<kvant::float8_e4m3fn>("channel.weight", {60, 70}, elements);
  builder.add<kvant::float16>("channel.weight_scale", {2, 3}, scales(6));
  builder.add<kvant::float8_e4m3fn>("blocks.weight", {60, 70}, elements);
  builder.add<kvant::float16>("blocks.weight_scale_inv", {1, 1}, scales(1));
}

/// bitsandbytes' forms: fp4, nf4 with absmax that are codes themselves, 8 bits.
void add_bitsandbytes(CheckpointBuilder& builder) {
  const auto bytes = [](std::size_t count) {
    std::vector<std::uint8_t> values;
    for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<std::uint8_t>(i * 37));
    return values;
  };
  const auto add_state = [&](const std::string& name, const std::string& text) {
    builder.add(name, {text.size()}, std::vector<std::uint8_t>(text.begin(), text.end()));
  };
  const std::vector<float> values(256, 0.5f);
  const auto floats = [&](std::size_t count) {
    return std::vector<float>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
  };
  builder.add("fp4.weight", {64, 1}, bytes(64));
  builder.add("fp4.weight.absmax", {2}, floats(2));
  builder.add("fp4.weight.quant_map", {16}, floats(16));
  add_state("fp4.weight.quant_state.bitsandbytes__fp4",
            R"({"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [8, 16]})");
  builder.add("nf4.weight", {128, 1}, bytes(128));
  builder.add("nf4.weight.absmax", {4}, bytes(4));
  builder.add("nf4.weight.quant_map", {16}, floats(16));
  builder.add("nf4.weight.nested_absmax", {1}, floats(1));
  builder.add("nf4.weight.nested_quant_map", {256}, floats(256));
  add_state("nf4.weight.quant_state.bitsandbytes__nf4",
            R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 32],
                "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5})");
  builder.add("eight.weight", {8, 16}, std::vector<std::int8_t>(128, -5));
  builder.add("eight.SCB", {8}, floats(8));
  builder.add<std::uint8_t>("eight.weight_format", {1}, {0});
}

/// compressed-tensors' int-quantized and mxfp4-pack-quantized.
void add_elements(CheckpointBuilder& builder) {
  builder.add("int.weight", {8, 64}, std::vector<std::int8_t>(512, 3));
  builder.add("int.weight_scale", {8, 1}, std::vector<kvant::bfloat16>(8, kvant::bfloat16(0.5f)));
  builder.add("mx.weight_packed", {8, 32}, std::vector<std::uint8_t>(256, 0x3A));
  builder.add("mx.weight_scale", {8, 2}, std::vector<std::uint8_t>(16, 127));
}

/// Made once, in a folder that goes with the process.
const CheckpointBuilder& model() {
  static CheckpointBuilder builder;
  static const std::string path = [] {
    add_layers(builder);
    add_bitsandbytes(builder);
    add_elements(builder);
    return builder.write();
  }();
  return builder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::filesystem::path folder = model().folder().path();
  std::ofstream(folder / "config.json", std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto result = kvant::look::verify_checkpoint(folder);
  if (to_text(result).empty()) std::abort();
  try {
    const kvant::io::Checkpoint checkpoint(folder);
    for (const auto& layer :
         kvant::io::find_linear_layers(checkpoint, kvant::io::model_hints_of(folder))) {
      if (layer.outputs > 64 || layer.inputs > 128) std::abort();  // sizes are the tensors'
      try {
        const kvant::io::LayerReader reader(checkpoint, layer);
        std::vector<float> values(static_cast<std::size_t>(layer.elements()));
        reader.read(0, layer.outputs, values.data());
        if (!reader.codes()) continue;
        std::vector<std::uint8_t> codes(values.size());
        reader.read_codes(0, layer.outputs, codes.data());
      } catch (const kvant::Error&) {
        // A section that does not fit the layer.
      }
    }
  } catch (const kvant::Error&) {
    // No JSON.
  }
  return 0;
}
