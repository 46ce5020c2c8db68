#pragma once

/// @file
/// How a matrix is cut into blocks (BlockShape), how each block's scale is chosen and its values
/// are rounded (QuantScheme), and the outcome (QuantParams).

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/quantize.hpp"
#include "kvant/round_order.hpp"

namespace kvant {

/// The rows x cols elements that share one scale; 0 = as many as there are. Any matrix shape will
/// do: the last block of a row or column may be short. Granularity is this one concept.
struct BlockShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  friend constexpr bool operator==(const BlockShape&, const BlockShape&) = default;

  /// Blocks along the rows / columns of a matrix; none if it is empty.
  [[nodiscard]] constexpr std::int64_t count_rows(std::int64_t matrix_rows) const noexcept {
    return count(matrix_rows, rows);
  }
  [[nodiscard]] constexpr std::int64_t count_cols(std::int64_t matrix_cols) const noexcept {
    return count(matrix_cols, cols);
  }

 private:
  static constexpr std::int64_t count(std::int64_t extent, std::int64_t block) noexcept {
    if (extent == 0) return 0;
    return block == 0 ? 1 : (extent - 1) / block + 1;
  }
};

/// Granularities by name. The namespace is only there because g++ takes an enumerator of the same
/// name (Outliers::per_row) for a shadow of a plain namespace member.
inline namespace granularity {

/// @{
/// One scale for the matrix, for each row, for each column.
inline constexpr BlockShape per_tensor{0, 0};
inline constexpr BlockShape per_row{1, 0};
inline constexpr BlockShape per_column{0, 1};
/// @}
/// A token is a row of the activations.
inline constexpr BlockShape per_token = per_row;

}  // namespace granularity

/// torch's axis: 0 (or -2) gives one scale per row, 1 (or -1) one per column.
/// @throws Error invalid_argument for another axis
KVANT_API BlockShape per_channel(int axis);
/// Groups of `size` neighbours within a row. @throws Error invalid_argument for size < 1
KVANT_API BlockShape per_group(std::int64_t size);
/// Two-dimensional blocks. @throws Error invalid_argument for a side < 1
KVANT_API BlockShape per_block(std::int64_t rows, std::int64_t cols);

/// How the scale (and zero point) of a block follow from its smallest and largest value.
enum class ScaleRule : std::uint8_t {
  absmax,            ///< symmetric_scale: absmax / highest; codes by highest / absmax
  affine,            ///< affine_scale: range extended to contain 0, in double
  torch_symmetric,   ///< absmax / ((highest - lowest) / 2), at least 2^-23, in fp32
  torch_affine,      ///< as affine, in fp32, scale at least 2^-23
  quanto_absmax,     ///< absmax / highest in the input's own type; codes by division
  quanto_shift,      ///< (max - min) / highest and a float shift -min: x = code * scale - shift
  quanto_zeropoint,  ///< the same range, zero point = clamp(rne(-min / scale))
};

/// Codes and conventions, by name (below). Values: copy one and change what differs.
struct QuantScheme {
  std::string_view name;
  DType dtype;  ///< of the codes: int8, uint8, int4, uint4, int2 or uint2
  std::int32_t lowest;
  std::int32_t highest;
  ScaleRule rule;
  RoundOrder tensor_order = RoundOrder::kvant;  ///< with one scale for the whole matrix
  RoundOrder block_order = RoundOrder::kvant;   ///< with more than one

  /// The same with another code range, e.g. torch's reduce_range -64..63.
  [[nodiscard]] constexpr QuantScheme with_range(std::int32_t low,
                                                 std::int32_t high) const noexcept {
    QuantScheme scheme = *this;
    scheme.lowest = low;
    scheme.highest = high;
    return scheme;
  }
  /// The same with another order of roundings.
  [[nodiscard]] constexpr QuantScheme with_order(RoundOrder order) const noexcept {
    QuantScheme scheme = *this;
    scheme.tensor_order = order;
    scheme.block_order = order;
    return scheme;
  }
};

/// @{
/// kvant's own schemes. Symmetric ranges leave the lowest code out, so that -q is always a code.
inline constexpr QuantScheme int8_symmetric{"int8_symmetric", DType::int8, -127, 127,
                                            ScaleRule::absmax};
inline constexpr QuantScheme int8_affine{"int8_affine", DType::int8, -128, 127, ScaleRule::affine};
inline constexpr QuantScheme uint8_affine{"uint8_affine", DType::uint8, 0, 255, ScaleRule::affine};
inline constexpr QuantScheme int4_symmetric{"int4_symmetric", DType::int4, -7, 7,
                                            ScaleRule::absmax};
inline constexpr QuantScheme int4_affine{"int4_affine", DType::int4, -8, 7, ScaleRule::affine};
inline constexpr QuantScheme uint4_affine{"uint4_affine", DType::uint4, 0, 15, ScaleRule::affine};
inline constexpr QuantScheme int2_symmetric{"int2_symmetric", DType::int2, -1, 1,
                                            ScaleRule::absmax};
inline constexpr QuantScheme int2_affine{"int2_affine", DType::int2, -2, 1, ScaleRule::affine};
inline constexpr QuantScheme uint2_affine{"uint2_affine", DType::uint2, 0, 3, ScaleRule::affine};
/// @}

/// bitsandbytes' vectorwise absmax (int8_vectorwise_quant at threshold 0), use with per_row: the
/// same rule as int8_symmetric. Its row_stats are scale * 127.
inline constexpr QuantScheme bitsandbytes_absmax{"bitsandbytes_absmax", DType::int8, -127, 127,
                                                 ScaleRule::absmax};

/// @{
/// torch: MinMaxObserver's parameters with quantize_per_tensor's and quantize_per_channel's codes
/// (2.13; "qint8" etc. are its names). Its fake quantize rounds in kvant's order:
/// torch_qint8_affine.with_order(RoundOrder::kvant). reduce_range: with_range(-64, 63), (0, 127).
inline constexpr QuantScheme torch_qint8_affine{
    "torch_qint8_affine",
    DType::int8,
    -128,
    127,
    ScaleRule::torch_affine,
    RoundOrder::torch_tensor,
    RoundOrder::torch_channel,
};
inline constexpr QuantScheme torch_quint8_affine{
    "torch_quint8_affine",
    DType::uint8,
    0,
    255,
    ScaleRule::torch_affine,
    RoundOrder::torch_tensor,
    RoundOrder::torch_channel,
};
inline constexpr QuantScheme torch_qint8_symmetric{
    "torch_qint8_symmetric",
    DType::int8,
    -128,
    127,
    ScaleRule::torch_symmetric,
    RoundOrder::torch_tensor,
    RoundOrder::torch_channel,
};
inline constexpr QuantScheme torch_quint8_symmetric{
    "torch_quint8_symmetric",
    DType::uint8,
    0,
    255,
    ScaleRule::torch_symmetric,
    RoundOrder::torch_tensor,
    RoundOrder::torch_channel,
};
/// @}

/// @{
/// optimum-quanto 0.2.7: its optimizers' scales and its codes. Every operation rounds to the
/// input's own type, as there; qint4 and qint2 have unsigned codes and a float shift.
inline constexpr QuantScheme quanto_qint8{
    "quanto_qint8",     DType::int8,       -128, 127, ScaleRule::quanto_absmax,
    RoundOrder::divide, RoundOrder::divide};
inline constexpr QuantScheme quanto_qint4{
    "quanto_qint4",     DType::uint4,      0, 15, ScaleRule::quanto_shift,
    RoundOrder::divide, RoundOrder::divide};
inline constexpr QuantScheme quanto_qint2{
    "quanto_qint2",     DType::uint2,      0, 3, ScaleRule::quanto_shift,
    RoundOrder::divide, RoundOrder::divide};
inline constexpr QuantScheme quanto_qint4_zeropoint{
    "quanto_qint4_zeropoint", DType::uint4,      0, 15, ScaleRule::quanto_zeropoint,
    RoundOrder::divide,       RoundOrder::divide};
inline constexpr QuantScheme quanto_qint2_zeropoint{
    "quanto_qint2_zeropoint", DType::uint2,      0, 3, ScaleRule::quanto_zeropoint,
    RoundOrder::divide,       RoundOrder::divide};
/// @}

/// The parameters of all blocks of a matrix, row-major over the blocks. Made by choose_params or an
/// observer; or filled by hand: scheme, block and scale suffice.
struct QuantParams {
  QuantScheme scheme = int8_symmetric;
  BlockShape block = per_tensor;
  std::vector<float> scale;  ///< one per block, > 0 (a shift allows 0: a constant block)
  std::vector<std::int32_t> zero_point;  ///< one per block in the code range; empty: all 0
  /// What values are multiplied by, one per block; empty: 1 / scale. For absmax schemes it is
  /// highest / absmax, which is not always 1 / scale.
  std::vector<float> inv_scale;
  std::vector<float> shift;  ///< x = code * scale - shift; empty: none. Not with zero points.
  /// The type each operation rounds to: float32, or the half type of quanto's input.
  DType arithmetic = DType::float32;

  [[nodiscard]] std::size_t size() const noexcept { return scale.size(); }
  /// Bytes of scales, zero points and shifts, as a file would store them (4 each).
  [[nodiscard]] std::size_t bytes() const noexcept {
    return 4 * (scale.size() + zero_point.size() + shift.size());
  }
  /// The order of roundings: the scheme's for one or for many blocks.
  [[nodiscard]] RoundOrder order() const noexcept {
    return block == per_tensor ? scheme.tensor_order : scheme.block_order;
  }
};

/// Parameters from the smallest and largest value of each block. NaN or infinite ends and, in
/// torch's fp32 rules, a range that overflows are errors; min = +inf, max = -inf stands for "never
/// observed" (scale 1, zero point 0 or the end of the range next to it).
/// @param arithmetic  the type of the values; only the quanto rules look at it
/// @throws Error not_finite, invalid_argument (min > max, a broken scheme), shape_mismatch
[[nodiscard]] KVANT_API QuantParams params_from_range(const std::vector<float>& min,
                                                      const std::vector<float>& max,
                                                      const QuantScheme& scheme, BlockShape block,
                                                      DType arithmetic = DType::float32);

/// Checks parameters against a matrix: number of blocks, lengths, code range, scales > 0 and
/// finite, zero points in the code range.
/// @throws Error shape_mismatch, invalid_argument, unsupported
KVANT_API void check_params(const QuantParams& params, std::int64_t rows, std::int64_t cols);

}  // namespace kvant
