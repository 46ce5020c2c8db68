// PackedWeights::from: what the linear quantizers make, as weights of a layer. Nothing is rounded:
// codes and scales are taken as they are, or refused by name.

#include <algorithm>
#include <string>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/float_element.hpp"
#include "kvant/linear_quantizer.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

constexpr const char* kWho = "PackedWeights::from";

std::string block_text(BlockShape block) {
  return std::to_string(block.rows) + " x " + std::to_string(block.cols);
}

/// The format that holds one scale for each block of this shape, and its own block.
struct Target {
  WeightFormat format;
  std::int64_t block;
};
Target target_of(const QuantizedMatrix& q) {
  const QuantParams& params = q.params();
  if (describe(q.dtype()).kind == DTypeKind::floating) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": codes of type " +
                                     std::string(to_string(q.dtype())) +
                                     " are no integers; PackedWeights::quantize makes fp8 weights "
                                     "(WeightFormat::fp8_row)");
  }
  if (!params.shift.empty()) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": " + std::string(params.scheme.name) +
                                     " has a float shift for each block, which no weight format " +
                                     "holds; quantize with a symmetric scheme");
  }
  if (params.arithmetic != DType::float32) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": values that round to " +
                                     std::string(to_string(params.arithmetic)) +
                                     " at every step are not code * scale in float32");
  }
  const std::int64_t cols = params.block.cols;
  if (cols == 0 || cols >= q.cols()) return {WeightFormat::int8_row, 0};
  if (cols % 32 != 0) {
    fail(
        ErrorCode::unsupported,
        std::string(kWho) + ": a scale for blocks of " + block_text(params.block) +
            " weights: int8 holds one for a tensor, a row or rows, int8-group one for a multiple " +
            "of 32 neighbours of a row (a scale for each column belongs to the activations)");
  }
  return {WeightFormat::int8_group, cols};
}

}  // namespace

PackedWeights PackedWeights::from(Context& context, const QuantizedMatrix& q) {
  return at_border(kWho, [&] {
    const Target target = target_of(q);
    const QuantParams& params = q.params();
    const bool wide_scales = target.format == WeightFormat::int8_group &&
                             std::any_of(params.scale.begin(), params.scale.end(), [](float scale) {
                               return round_to(DType::float16, scale) != scale;
                             });
    PackedWeightsBuilder builder(kWho, context.kernels(), target.format, q.rows(), q.cols(),
                                 target.block, false, wide_scales);
    const State& state = builder.state();
    const std::int64_t nr = state.layout().nr;
    const std::int64_t row_scales = state.row_scales();
    const std::int64_t blocks_across = params.block.count_cols(q.cols());
    const auto block_of = [&](std::int64_t r, std::int64_t block) {
      const std::int64_t down = params.block.rows == 0 ? 0 : r / params.block.rows;
      return static_cast<std::size_t>(down * blocks_across + block);
    };
    std::vector<std::int8_t> rows(static_cast<std::size_t>(nr * q.cols()));
    std::vector<float> scales(static_cast<std::size_t>(row_scales));
    for (std::int64_t first = 0; first < q.rows(); first += nr) {
      const std::int64_t count = std::min(nr, q.rows() - first);
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t c = 0; c < q.cols(); ++c) {
          const std::int64_t block = target.block == 0 ? 0 : c / target.block;
          const std::int32_t zero =
              params.zero_point.empty() ? 0 : params.zero_point[block_of(first + r, block)];
          const std::int32_t code = q.code(first + r, c) - zero;
          if (code < -128 || code > 127) {
            fail(ErrorCode::unsupported,
                 std::string(kWho) + ": the code at [" + std::to_string(first + r) + ", " +
                     std::to_string(c) + "] less its zero point is " + std::to_string(code) +
                     ", which int8 does not hold; quantize with a symmetric scheme");
          }
          rows[static_cast<std::size_t>(r * q.cols() + c)] = static_cast<std::int8_t>(code);
        }
      }
      builder.pack_rows(first, reinterpret_cast<const std::byte*>(rows.data()), count, q.cols());
      for (std::int64_t r = first; r < first + count; ++r) {
        for (std::int64_t block = 0; block < row_scales; ++block) {
          const float scale = params.scale[block_of(r, block)];
          scales[static_cast<std::size_t>(block)] = scale;
          if (builder.absmax() != nullptr) builder.absmax()[r] = scale * 127.0f;
        }
        builder.set_scales(r, scales.data(), nullptr);
      }
    }
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

}  // namespace kvant
