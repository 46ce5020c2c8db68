// Any bytes give an error or a fully consistent view of the file, and a file that can be opened can
// be listed, verified and decoded as a checkpoint.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <vector>

#include "fuzz/memory_file.hpp"
#include "kvant/error.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/look/inspect.hpp"
#include "kvant/look/verify.hpp"

namespace {

/// @return the bytes of all tensors
std::size_t touch_everything(const kvant::io::SafeTensors& file) {
  std::size_t total = 0;
  volatile unsigned touched = 0;
  for (const auto& info : file.tensors()) {
    const auto view = file.tensor(info.name);
    if (view.info != &info || view.data.size() != info.bytes) std::abort();
    for (const std::byte b : view.data) touched = touched + std::to_integer<unsigned>(b);
    total += view.data.size();
    if (info.dtype == kvant::DType::float32 && info.shape.size() <= 2) {
      for (const float v : file.values<float>(info.name)) touched = touched + (v > 0 ? 1u : 0u);
    }
  }
  return total;
}

/// The last rows of every linear layer, in whatever form it is stored, as floats and as codes.
void read_layers(const std::filesystem::path& path) {
  const kvant::io::Checkpoint checkpoint(path);
  for (const auto& layer : kvant::io::find_linear_layers(checkpoint)) {
    const std::int64_t rows = std::min<std::int64_t>(layer.outputs, 2);
    if (layer.inputs > (1 << 20)) continue;
    std::vector<float> values(static_cast<std::size_t>(rows * layer.inputs));
    const kvant::io::LayerReader reader(checkpoint, layer);
    reader.read(layer.outputs - rows, rows, values.data());
    if (!reader.codes()) continue;
    std::vector<std::uint8_t> codes(values.size());
    reader.read_codes(layer.outputs - rows, rows, codes.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kvant::test::MemoryFile path(data, size);
  // A checkpoint in one file may be GGUF too, which gguf_fuzz looks at.
  bool good = kvant::io::is_gguf_file(path.path());
  try {
    const auto file = kvant::io::SafeTensors::from_bytes(std::as_bytes(std::span(data, size)));
    if (touch_everything(file) > size) std::abort();
    good = true;
  } catch (const kvant::io::FormatError&) {
  }
  try {
    const auto contents = kvant::look::inspect_checkpoint(path.path());
    if (!good || to_text(contents).empty() || to_json(contents).empty()) std::abort();
  } catch (const kvant::Error&) {
    // A file by itself may be good and its 4-bit descriptions not.
  }
  try {
    read_layers(path.path());
  } catch (const kvant::Error&) {
    // Layers whose parts are missing or do not fit.
  }
  const auto result = kvant::look::verify_checkpoint(path.path());
  if (!good && result.ok()) std::abort();
  if (to_text(result).empty() || to_json(result).empty()) std::abort();
  return 0;
}
