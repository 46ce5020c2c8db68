// Any bytes as the config.json of a folder that holds a layer in each form whose reading depends on
// quantization_config (GPTQ, AWQ, compressed-tensors, fp8): errors, or layers that can be read.

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

/// Five layers, in one file.
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

/// Made once, in a folder that goes with the process.
const CheckpointBuilder& model() {
  static CheckpointBuilder builder;
  static const std::string path = [] {
    add_layers(builder);
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
