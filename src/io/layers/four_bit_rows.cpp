#include "io/layers/four_bit_rows.hpp"

#include <algorithm>
#include <cmath>

#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/codebook.hpp"
#include "kvant/float16.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

std::vector<float> floats(const Checkpoint& checkpoint, const std::string& name,
                          std::uint64_t count) {
  std::vector<float> values = checkpoint.values<float>(name);
  if (values.size() != count) {
    throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(name) + " has " +
                                                 std::to_string(values.size()) + " elements, " +
                                                 std::to_string(count) + " are needed");
  }
  return values;
}

}  // namespace

std::optional<QuantState> find_state(const FindTensor& find, const std::string& layer) {
  if (find(layer + kStates[0]).info != nullptr && find(layer + kStates[1]).info != nullptr) {
    throw FormatError(FormatErrorKind::structure,
                      "layer " + in_quotes(layer) + " has two descriptions, " +
                          in_quotes(layer + kStates[0]) + " and " + in_quotes(layer + kStates[1]) +
                          ": there must be one");
  }
  for (const char* suffix : kStates) {
    const TensorView view = find(layer + suffix);
    if (view.info == nullptr) continue;
    const std::string where = "tensor " + in_quotes(layer + suffix);
    if (view.info->dtype != DType::uint8) {
      throw FormatError(FormatErrorKind::structure,
                        where + " is " + describe_tensor(view.info->dtype, view.info->shape) +
                            ", not U8: the text that describes a weight in 4 bits");
    }
    return parse_state(view.data, where);
  }
  return std::nullopt;
}

std::string missing_state(const TensorInfo& weight) {
  return described(weight) +
         " with absmax and quant_map beside it, codes of bitsandbytes in 4 bits, but their "
         "quant_state is missing: the tensor " +
         in_quotes(weight.name + ".quant_state.bitsandbytes__nf4") + " (or __fp4)";
}

std::vector<float> codebook_values(WeightFormat format) {
  std::vector<float> values;
  for (const float value : kvant::table_of(describe(format).codebook)->value) {
    values.push_back(value + 0.0f);  // bitsandbytes has no -0
  }
  return values;
}

FourBitRows::FourBitRows(const Checkpoint& checkpoint, const std::string& layer) {
  const FindTensor find = find_in(checkpoint);
  const std::string weight = layer + std::string(kWeightSuffix);
  const std::optional<QuantState> state = find_state(find, layer);
  if (!state) {
    throw FormatError(FormatErrorKind::missing_scales,
                      missing_state(*checkpoint.tensor(weight).info));
  }
  state_ = *state;
  if (const std::uint64_t bytes = checkpoint.tensor(weight).data.size();
      bytes != state_.packed_bytes()) {
    throw FormatError(FormatErrorKind::size,
                      "tensor " + in_quotes(weight) + " has " + std::to_string(bytes) + " bytes, " +
                          std::to_string(state_.packed_bytes()) + " are needed for " +
                          std::to_string(state_.elements()) + " codes");
  }
  table_ = floats(checkpoint, layer + kTable, kTableSize);
  if (const OddValues odd = count_odd(find(layer + kTable)); !odd.finite()) {
    throw FormatError(FormatErrorKind::bad_scales, "tensor " + in_quotes(layer + kTable) +
                                                       ", the values of codes, holds " +
                                                       odd.text() + " values");
  }
  if (!state_.nested) {
    scales_ = floats(checkpoint, layer + kAbsmax, state_.blocks());
    check_scales(layer);
    return;
  }
  const std::vector<std::uint8_t> codes = checkpoint.values<std::uint8_t>(layer + kAbsmax);
  if (codes.size() != state_.blocks()) {
    throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(layer + kAbsmax) + " has " +
                                                 std::to_string(codes.size()) + " elements for " +
                                                 std::to_string(state_.blocks()) + " blocks");
  }
  const auto block = static_cast<std::uint64_t>(state_.nested_blocksize);
  const std::vector<float> map = floats(checkpoint, layer + kNestedTable, kNestedTableSize);
  const std::vector<float> absmax =
      floats(checkpoint, layer + kNestedAbsmax, state_.nested_blocks());
  scales_.resize(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    scales_[i] = map[codes[i]] * absmax[i / block] + state_.nested_offset;
  }
  check_scales(layer);
}

RowDecoder::Range FourBitRows::bytes_of(std::int64_t first_row, std::int64_t rows) const {
  // Rows need not begin at a byte.
  const auto begin = static_cast<std::uint64_t>(first_row * state_.inputs) / 2;
  const auto end = (static_cast<std::uint64_t>((first_row + rows) * state_.inputs) + 1) / 2;
  return {begin, end - begin};
}

void FourBitRows::decode(const WeightBlock& block, std::span<const std::byte> bytes,
                         float* out) const {
  const std::int64_t byte0 = block.first_row * state_.inputs / 2;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t begin = (block.first_row + r) * state_.inputs + block.first_col;
    float* to = out + r * block.cols;
    for (std::int64_t c = 0; c < block.cols; ++c) {
      const std::int64_t at = begin + c;  // in the flattened weight; the high nibble comes first
      const auto byte = std::to_integer<unsigned>(bytes[static_cast<std::size_t>(at / 2 - byte0)]);
      const unsigned code = at % 2 == 0 ? byte >> 4 : byte & 15u;
      to[c] = rounded(table_[code] * scales_[static_cast<std::size_t>(at / state_.blocksize)]);
    }
  }
}

std::optional<LayerCodes> FourBitRows::codes() const {
  const bool possible = state_.blocksize % 32 == 0 && state_.blocksize <= (1 << 20) &&
                        state_.inputs <= kMaxInnerDimension &&
                        table_ == codebook_values(state_.format);
  if (!possible) return std::nullopt;
  return LayerCodes{.format = state_.format, .block = state_.blocksize, .scales = scales_};
}

void FourBitRows::unpack(std::int64_t first_row, std::int64_t rows,
                         std::span<const std::byte> bytes, std::uint8_t* out) const {
  const std::int64_t begin = first_row * state_.inputs;
  for (std::int64_t i = 0; i < rows * state_.inputs; ++i) {
    const auto byte =
        std::to_integer<unsigned>(bytes[static_cast<std::size_t>((begin + i) / 2 - begin / 2)]);
    out[i] = static_cast<std::uint8_t>((begin + i) % 2 == 0 ? byte >> 4 : byte & 15u);
  }
}

/// @throws FormatError bad_scales: an absmax that is not finite
void FourBitRows::check_scales(const std::string& layer) const {
  const auto odd = std::find_if(scales_.begin(), scales_.end(),
                                [](float absmax) { return !std::isfinite(absmax); });
  if (odd == scales_.end()) return;
  throw FormatError(FormatErrorKind::bad_scales,
                    "layer " + in_quotes(layer) + ": the absmax of block " +
                        std::to_string(odd - scales_.begin()) + " is " + std::to_string(*odd));
}

/// Dequantized weights have the type that the weights had.
float FourBitRows::rounded(float value) const {
  if (state_.dtype == DType::float16) return static_cast<float>(float16(value));
  if (state_.dtype == DType::bfloat16) return static_cast<float>(bfloat16(value));
  return value;
}

}  // namespace kvant::io
