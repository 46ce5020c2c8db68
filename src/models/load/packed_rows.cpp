#include "models/load/packed_rows.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "kvant/matrix.hpp"

namespace kvant::models {
namespace {

/// Where a range's scales begin, and how many there are.
Share scales_of(const WeightFormatInfo& info, std::int64_t inputs, std::int64_t block,
                const Share& part) {
  if (info.axis != BlockAxis::flattened) {
    const std::int64_t per_row = info.scales(1, inputs, block);
    return {part.begin * per_row, part.end * per_row};
  }
  if (part.begin * inputs % block != 0) {
    throw Error(
        ErrorCode::unsupported,
        std::string(info.name) + ": " + std::to_string(block) +
            " neighbours share a scale, and a rank's part would begin inside of them (output " +
            std::to_string(part.begin) + " of " + std::to_string(inputs) +
            " inputs); take another number of ranks, or a smaller group");
  }
  return {part.begin * inputs / block, (part.end * inputs + block - 1) / block};
}

}  // namespace

std::int64_t outputs_sharing_scales(WeightFormat format, std::int64_t inputs, std::int64_t block) {
  const WeightFormatInfo& info = describe(format);
  if (info.axis != BlockAxis::flattened) return info.block_rows;
  if (block == 0) block = info.block;
  return block / std::gcd(inputs, block);
}

void take_scales(WeightFormat format, std::int64_t inputs, std::int64_t block,
                 const std::vector<Share>& rows, std::vector<float>& scales,
                 std::vector<std::uint8_t>& zero_points) {
  const WeightFormatInfo& info = describe(format);
  if (block == 0) block = info.block;
  std::vector<float> own_scales;
  std::vector<std::uint8_t> own_zeros;
  for (const Share& part : rows) {
    const Share at = scales_of(info, inputs, block, part);
    own_scales.insert(own_scales.end(), scales.begin() + at.begin, scales.begin() + at.end);
    if (zero_points.empty()) continue;
    own_zeros.insert(own_zeros.end(), zero_points.begin() + at.begin, zero_points.begin() + at.end);
  }
  scales = std::move(own_scales);
  zero_points = std::move(own_zeros);
}

PackedWeights take_rows(Context& context, const PackedWeights& weights,
                        const std::vector<Share>& rows) {
  const std::vector<PackedWeights> same(rows.size(), weights);
  return join_rows(context, same, rows);
}

PackedWeights join_rows(Context& context, std::span<const PackedWeights> weights,
                        const std::vector<Share>& rows) {
  const PackedWeights& first = weights.front();
  const WeightFormatInfo& info = describe(first.format());
  const std::int64_t inputs = first.k();
  std::int64_t outputs = 0;
  for (const Share& part : rows) outputs += part.size();
  if (info.is_float()) {
    Matrix<float> values(outputs, inputs);
    std::int64_t to = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int64_t count = rows[i].size();
      weights[i].dequantize(MatrixView<float>(values.data() + to * inputs, count, inputs),
                            rows[i].begin);
      to += count;
    }
    return PackedWeights::quantize(context, MatrixView<const float>(values), first.format());
  }
  Matrix<std::uint8_t> codes(outputs, inputs);
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  std::vector<float> row_scales;
  std::vector<std::uint8_t> row_zeros;
  std::int64_t to = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Share part = rows[i];
    (void)scales_of(info, inputs, first.block(), part);  // throws where it begins in a block
    std::uint8_t* const at = codes.data() + to * inputs;
    if (info.codes == DType::int8) {
      weights[i].unpack_rows(part.begin, MatrixView<std::int8_t>(reinterpret_cast<std::int8_t*>(at),
                                                                 part.size(), inputs));
    } else {
      weights[i].unpack_rows(part.begin, MatrixView<std::uint8_t>(at, part.size(), inputs));
    }
    std::int64_t done = -1;  // of blocks of the flattened part, which may cross rows
    for (std::int64_t r = 0; r < part.size(); ++r) {
      weights[i].unpack_scales(part.begin + r, row_scales, row_zeros);
      const std::int64_t from =
          info.axis == BlockAxis::flattened ? r * inputs / first.block() : done + 1;
      const auto skip = static_cast<std::ptrdiff_t>(done + 1 - from);
      scales.insert(scales.end(), row_scales.begin() + skip, row_scales.end());
      if (!row_zeros.empty()) {
        zeros.insert(zeros.end(), row_zeros.begin() + skip, row_zeros.end());
      }
      done = from + static_cast<std::int64_t>(row_scales.size()) - 1;
    }
    to += part.size();
  }
  return PackedWeights::from_codes(context, {.format = first.format(),
                                             .codes = MatrixView<const std::uint8_t>(codes),
                                             .scales = scales,
                                             .zero_points = zeros,
                                             .block = first.block()});
}

}  // namespace kvant::models
