#include "models/mix/pack_layer.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/gguf_blocks.hpp"
#include "kvant/io/gguf_writer.hpp"
#include "models/parallel.hpp"

namespace kvant::models {
namespace {

/// By GGUF's reference quantizers, as a file would be written.
PackedWeights pack_blocks(Context& context, ConstAnyMatrix weights, WeightFormat format) {
  const WeightFormatInfo& info = describe(format);
  if (weights.cols % info.gguf_elements != 0) {
    throw Error(ErrorCode::invalid_argument, "a layer of " + std::to_string(weights.cols) +
                                                 " inputs cannot be " + std::string(info.name) +
                                                 ", whose blocks are " +
                                                 std::to_string(info.gguf_elements) + " long");
  }
  const auto* const blocks =
      std::find_if(detail::kGgufBlocksTable.begin(), detail::kGgufBlocksTable.end(),
                   [&](const GgufBlocksInfo& each) { return each.format == format; });
  const io::GgufType& type = *io::find_gguf_type(blocks->name);
  const std::int64_t row_bytes = weights.cols / info.gguf_elements * info.gguf_bytes;
  std::vector<std::byte> bytes(static_cast<std::size_t>(weights.rows * row_bytes));
  const std::int64_t element = describe(weights.dtype).bits / 8;
  constexpr std::int64_t kRowsPerTask = 16;
  parallel_tasks(context, (weights.rows + kRowsPerTask - 1) / kRowsPerTask,
                 weights.rows * weights.cols * 16, [&](std::int64_t task) {
                   std::vector<float> row(static_cast<std::size_t>(weights.cols));
                   const std::int64_t end = std::min(weights.rows, (task + 1) * kRowsPerTask);
                   for (std::int64_t r = task * kRowsPerTask; r < end; ++r) {
                     const auto* from =
                         static_cast<const std::byte*>(weights.data) + r * weights.stride * element;
                     context.kernels().convert(
                         {from, weights.dtype, row.data(), DType::float32, weights.cols});
                     io::quantize_gguf(type, row.data(), 1, weights.cols,
                                       bytes.data() + r * row_bytes, std::string(info.name));
                   }
                 });
  return PackedWeights::from_blocks(context, blocks->type, weights.rows, weights.cols, bytes);
}

}  // namespace

PackedWeights pack_layer(Context& context, ConstAnyMatrix weights, LayerFormat format,
                         Arithmetic arithmetic) {
  if (describe(format.format).is_gguf()) return pack_blocks(context, weights, format.format);
  return PackedWeights::quantize(context, weights, format.format,
                                 {.block = format.group, .arithmetic = arithmetic});
}

}  // namespace kvant::models
