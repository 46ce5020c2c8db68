#pragma once

/// @file
/// How a matrix is cut into blocks that share a scale (BlockShape), and how a block's scale is
/// chosen and its values are rounded (QuantScheme).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
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

/// A channel of a tensor: one index along `axis`, counted from the end where it is negative, as
/// torch does. For a matrix it converts to a BlockShape: axis 0 (or -2) is per_row, 1 (or -1)
/// per_column.
struct ChannelAxis {
  int axis = 0;

  friend constexpr bool operator==(const ChannelAxis&, const ChannelAxis&) = default;

  /// @throws Error invalid_argument for an axis that a matrix has not
  operator BlockShape() const {  // NOLINT: implicit on purpose
    if (axis == 0 || axis == -2) return per_row;
    if (axis == 1 || axis == -1) return per_column;
    detail::fail(ErrorCode::invalid_argument,
                 "per_channel: a matrix has the axes 0 and 1 (or -2 and -1), not " +
                     std::to_string(axis) + "; tensors of any rank are TensorViews");
  }
};

/// One scale for each index along torch's axis, in a matrix or a tensor of any rank (TensorView).
constexpr ChannelAxis per_channel(int axis) noexcept {
  return {axis};
}

/// Groups of `size` neighbours within a row. @throws Error invalid_argument for size < 1
inline BlockShape per_group(std::int64_t size) {
  if (size < 1) {
    detail::fail(ErrorCode::invalid_argument,
                 "per_group: a group needs 1 element or more, not " + std::to_string(size));
  }
  return {1, size};
}

/// Two-dimensional blocks. @throws Error invalid_argument for a side < 1
inline BlockShape per_block(std::int64_t rows, std::int64_t cols) {
  if (rows < 1 || cols < 1) {
    detail::fail(ErrorCode::invalid_argument, "per_block: a block needs sides of 1 or more, not " +
                                                  detail::shape_text(rows, cols));
  }
  return {rows, cols};
}

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
  DType dtype;  ///< of the codes: int8, uint8, int4, uint4, int2, uint2, float8_e4m3fn, float8_e5m2
  std::int32_t lowest;  ///< least and largest code; of the float8 types, least and largest value
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

/// @{
/// Codes in 8-bit floats: element = float8(x / scale), rounded to nearest even and saturated, scale
/// = absmax / 448 or / 57344. The same rule as the weight format fp8 (numerics.md).
inline constexpr QuantScheme float8_e4m3fn_symmetric{
    "float8_e4m3fn_symmetric", DType::float8_e4m3fn, -448, 448, ScaleRule::absmax,
    RoundOrder::divide,        RoundOrder::divide};
inline constexpr QuantScheme float8_e5m2_symmetric{
    "float8_e5m2_symmetric", DType::float8_e5m2, -57344, 57344, ScaleRule::absmax,
    RoundOrder::divide,      RoundOrder::divide};
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
inline constexpr QuantScheme quanto_qfloat8{
    "quanto_qfloat8",   DType::float8_e4m3fn, -448, 448, ScaleRule::quanto_absmax,
    RoundOrder::divide, RoundOrder::divide};
inline constexpr QuantScheme quanto_qfloat8_e5m2{
    "quanto_qfloat8_e5m2", DType::float8_e5m2, -57344, 57344, ScaleRule::quanto_absmax,
    RoundOrder::divide,    RoundOrder::divide};
/// @}

/// All of the above, for those who look one up by its name.
inline constexpr std::array kQuantSchemes = {int8_symmetric,
                                             int8_affine,
                                             uint8_affine,
                                             int4_symmetric,
                                             int4_affine,
                                             uint4_affine,
                                             int2_symmetric,
                                             int2_affine,
                                             uint2_affine,
                                             bitsandbytes_absmax,
                                             torch_qint8_affine,
                                             torch_quint8_affine,
                                             torch_qint8_symmetric,
                                             torch_quint8_symmetric,
                                             quanto_qint8,
                                             quanto_qint4,
                                             quanto_qint2,
                                             quanto_qint4_zeropoint,
                                             quanto_qint2_zeropoint,
                                             float8_e4m3fn_symmetric,
                                             float8_e5m2_symmetric,
                                             quanto_qfloat8,
                                             quanto_qfloat8_e5m2};

}  // namespace kvant
