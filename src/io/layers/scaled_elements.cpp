#include "io/layers/scaled_elements.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/float16.hpp"
#include "kvant/float8.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kSquare = describe(WeightFormat::fp8_block).block;

[[noreturn]] void refuse(const TensorInfo& info, const std::string& what) {
  refuse_tensor(FormatErrorKind::bad_scales, info, what);
}

/// [], [N] and [N, M] as two sizes.
std::pair<std::uint64_t, std::uint64_t> two_sizes(const TensorInfo& scales) {
  const std::vector<std::uint64_t>& shape = scales.shape;
  return {shape.empty() ? 1 : shape[0], shape.size() < 2 ? 1 : shape[1]};
}

std::string weight_text(std::int64_t outputs, std::int64_t inputs) {
  return "; the weight is [" + std::to_string(outputs) + ", " + std::to_string(inputs) + "]";
}

std::int64_t pieces(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

float value_of(DType dtype, std::byte element) noexcept {
  const auto bits = std::to_integer<std::uint8_t>(element);
  if (dtype == DType::int8) return static_cast<float>(static_cast<std::int8_t>(bits));
  return static_cast<float>(float8_e4m3fn::from_bits(bits));
}

}  // namespace

void check_scale_type(const TensorInfo& scales) {
  if (scales.dtype != DType::float32 && scales.dtype != DType::float16 &&
      scales.dtype != DType::bfloat16) {
    refuse(scales, "; scales are F32, F16 or BF16");
  }
}

void check_scale_shape(const TensorInfo& scales, std::int64_t outputs, std::int64_t inputs) {
  check_scale_type(scales);
  const auto [down, across] = two_sizes(scales);
  if (scales.shape.size() > 2 || down == 0 || across == 0 ||
      down > static_cast<std::uint64_t>(outputs) || across > static_cast<std::uint64_t>(inputs)) {
    refuse(scales, weight_text(outputs, inputs));
  }
}

ScaleGrid scale_grid_of(const TensorInfo& scales, std::int64_t outputs, std::int64_t inputs,
                        const SaidBlocks& said) {
  check_scale_shape(scales, outputs, inputs);
  const auto shape = two_sizes(scales);
  const auto down = static_cast<std::int64_t>(shape.first);
  const auto across = static_cast<std::int64_t>(shape.second);
  ScaleGrid grid{.block_rows = outputs, .block_cols = inputs, .across = across};
  if (down == outputs) {
    grid.block_rows = 1;  // one scale, or the groups, of each output
  } else if (down != 1 || across != 1) {
    grid.block_rows = said.rows > 0 ? said.rows : kSquare;
  }
  if (across != 1) {
    // Squares are as config.json says; groups of an output divide it.
    const bool squares = grid.block_rows > 1;
    grid.block_cols = said.cols > 0 ? said.cols : squares ? kSquare : inputs / across;
  }
  if (pieces(outputs, grid.block_rows) != down || pieces(inputs, grid.block_cols) != across) {
    refuse(scales, weight_text(outputs, inputs) + ", in blocks of " +
                       std::to_string(grid.block_rows) + " x " + std::to_string(grid.block_cols) +
                       " those would be [" + std::to_string(pieces(outputs, grid.block_rows)) +
                       ", " + std::to_string(pieces(inputs, grid.block_cols)) + "]");
  }
  return grid;
}

void read_scales(ScaleGrid& grid, const TensorView& scales) {
  grid.scales.resize(scales.data.size() /
                     static_cast<std::size_t>(describe(scales.info->dtype).bits / 8));
  widen(scales.data.data(), scales.info->dtype, static_cast<std::int64_t>(grid.scales.size()),
        grid.scales.data());
  for (std::size_t i = 0; i < grid.scales.size(); ++i) {
    if (grid.scales[i] > 0 && std::isfinite(grid.scales[i])) continue;
    throw FormatError(FormatErrorKind::bad_scales, "tensor " + in_quotes(scales.info->name) +
                                                       " holds " + std::to_string(grid.scales[i]) +
                                                       " at position " + std::to_string(i) +
                                                       ", not a finite number above 0");
  }
}

void read_zeros(ScaleGrid& grid, const TensorView& zeros) {
  if (zeros.info->dtype != DType::int8 || zeros.data.size() != grid.scales.size()) {
    refuse(*zeros.info, "; there are " + std::to_string(grid.scales.size()) +
                            " scales, and an I8 zero point belongs to each");
  }
  grid.zeros = values_of<std::int8_t>(zeros);
  const bool none =
      std::all_of(grid.zeros.begin(), grid.zeros.end(), [](std::int8_t zero) { return zero == 0; });
  if (none) grid.zeros.clear();
}

WeightFormat element_format(DType elements, const ScaleGrid& grid, std::int64_t inputs) noexcept {
  const bool whole = grid.block_cols >= inputs;
  if (elements == DType::int8) return whole ? WeightFormat::int8_row : WeightFormat::int8_group;
  return whole ? WeightFormat::fp8_row : WeightFormat::fp8_block;
}

RowDecoder::Range ScaledElements::bytes_of(std::int64_t first_row, std::int64_t rows) const {
  return {static_cast<std::uint64_t>(first_row * inputs_),
          static_cast<std::uint64_t>(rows * inputs_)};
}

void ScaledElements::decode(const WeightBlock& block, std::span<const std::byte> bytes,
                            float* out) const {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    for (std::int64_t c = 0; c < block.cols; ++c) {
      const std::int64_t column = block.first_col + c;
      const std::size_t at = grid_.at(block.first_row + r, column);
      float value = value_of(dtype_, bytes[static_cast<std::size_t>(r * inputs_ + column)]);
      if (!grid_.zeros.empty()) value -= static_cast<float>(grid_.zeros[at]);
      out[r * block.cols + c] = value * grid_.scales[at];
    }
  }
}

std::optional<LayerCodes> ScaledElements::codes() const {
  LayerCodes codes{.format = element_format(dtype_, grid_, inputs_)};
  const WeightFormatInfo& info = describe(codes.format);
  if (info.block != 0) {
    codes.block = grid_.block_cols;
    if (codes.block % 32 != 0 || codes.block > (1 << 20)) return std::nullopt;
  }
  if (!grid_.zeros.empty() || inputs_ > kMaxInnerDimension) return std::nullopt;
  const bool fits = info.scale != DType::float16 ||
                    std::all_of(grid_.scales.begin(), grid_.scales.end(), [](float scale) {
                      return static_cast<float>(float16(scale)) == scale;
                    });
  if (!fits) return std::nullopt;
  codes.scales.reserve(static_cast<std::size_t>(outputs_ * grid_.across));
  for (std::int64_t n = 0; n < outputs_; ++n) {
    const auto first =
        grid_.scales.begin() + static_cast<std::ptrdiff_t>(n / grid_.block_rows * grid_.across);
    codes.scales.insert(codes.scales.end(), first, first + grid_.across);
  }
  return codes;
}

void ScaledElements::unpack(std::int64_t, std::int64_t rows, std::span<const std::byte> bytes,
                            std::uint8_t* out) const {
  std::memcpy(out, bytes.data(), static_cast<std::size_t>(rows * inputs_));
}

}  // namespace kvant::io
