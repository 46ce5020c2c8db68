#pragma once

/// @file
/// QuantParams of a matrix, value by value: which block an element lies in, its code and what a
/// code stands for. The scalar law of linear quantization for every granularity and code type;
/// kernels must equal it.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/float8.hpp"
#include "kvant/float_element.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {

/// Codes of a type that is an 8-bit float: the bits of the nearest element, saturated.
inline std::uint8_t float8_code(DType type, float value) noexcept {
  return type == DType::float8_e5m2
             ? float8_e5m2::from_float(value, Float8Overflow::saturate).bits
             : float8_e4m3fn::from_float(value, Float8Overflow::saturate).bits;
}
inline float float8_value(DType type, std::uint8_t code) noexcept {
  return type == DType::float8_e5m2 ? static_cast<float>(float8_e5m2::from_bits(code))
                                    : static_cast<float>(float8_e4m3fn::from_bits(code));
}

/// Parameters of a whole matrix, in the form that loops and kernels read.
class BlockParams {
 public:
  /// Checked parameters of a non-empty matrix; they must outlive this object.
  BlockParams(const QuantParams& params, std::int64_t rows, std::int64_t cols)
      : params_(params),
        block_rows_(params.block.rows == 0 ? rows : std::min(params.block.rows, rows)),
        block_cols_(params.block.cols == 0 ? cols : std::min(params.block.cols, cols)),
        grid_cols_(params.block.count_cols(cols)),
        is_unsigned_(describe(params.scheme.dtype).kind == DTypeKind::unsigned_integer),
        is_float8_(describe(params.scheme.dtype).kind == DTypeKind::floating) {
    if (params.order() == RoundOrder::divide) {
      factor_ = params.scale;
    } else if (!params.inv_scale.empty()) {
      factor_ = params.inv_scale;
    } else {
      factor_.reserve(params.scale.size());
      for (const float scale : params.scale) factor_.push_back(1 / scale);
    }
    zero_.assign(params.scale.size(), 0.0f);
    for (std::size_t i = 0; i < params.zero_point.size(); ++i) {
      zero_[i] = static_cast<float>(params.zero_point[i]);
    }
  }

  [[nodiscard]] const QuantParams& params() const noexcept { return params_; }
  [[nodiscard]] std::int64_t block_rows() const noexcept { return block_rows_; }
  [[nodiscard]] std::int64_t block_cols() const noexcept { return block_cols_; }
  [[nodiscard]] bool is_unsigned() const noexcept { return is_unsigned_; }
  /// What the elements of each block are multiplied by (divided by, under RoundOrder::divide).
  [[nodiscard]] const float* factor() const noexcept { return factor_.data(); }
  /// The zero point of each block as a float.
  [[nodiscard]] const float* zero() const noexcept { return zero_.data(); }
  /// The block of an element.
  [[nodiscard]] std::int64_t index(std::int64_t row, std::int64_t col) const noexcept {
    return row / block_rows_ * grid_cols_ + col / block_cols_;
  }
  /// By clamp(rne(x * factor) + zero) in float32; not so: 8-bit floats, a float shift, arithmetic
  /// that rounds to a half type.
  [[nodiscard]] bool is_plain() const noexcept {
    return !is_float8_ && params_.shift.empty() && params_.arithmetic == DType::float32;
  }

  /// Codes of elements [col, col + count) of a row, one a byte; load(i) is element col + i as
  /// float.
  template <class Load>
  void quantize_row(std::int64_t row, std::int64_t col, std::int64_t count, Load&& load,
                    std::uint8_t* codes) const noexcept {
    for_each_run(row, col, count, [&](std::int64_t at, std::int64_t begin, std::int64_t end) {
      const auto block = static_cast<std::size_t>(at);
      if (!is_plain()) {
        for (std::int64_t i = begin; i < end; ++i) codes[i] = special_code(load(i), block);
        return;
      }
      const float factor = factor_[block];
      const auto zero = static_cast<std::int32_t>(zero_[block]);
      const QuantScheme& scheme = params_.scheme;
      const RoundOrder order = params_.order();
      for (std::int64_t i = begin; i < end; ++i) {
        codes[i] = static_cast<std::uint8_t>(
            quantize_value(load(i), factor, zero, scheme.lowest, scheme.highest, order));
      }
    });
  }

  /// The inverse; store(i, value) takes element col + i in float32.
  template <class Store>
  void dequantize_row(std::int64_t row, std::int64_t col, std::int64_t count,
                      const std::uint8_t* codes, Store&& store) const noexcept {
    for_each_run(row, col, count, [&](std::int64_t at, std::int64_t begin, std::int64_t end) {
      const auto block = static_cast<std::size_t>(at);
      const float scale = params_.scale[block];
      const float zero = zero_[block];
      for (std::int64_t i = begin; i < end; ++i) {
        const float code = code_value(codes[i]);
        store(i, is_plain() ? (code - zero) * scale : special_value(code, block));
      }
    });
  }

 private:
  /// Calls f(block, begin, end) for the parts of [col, col + count) that share a block; begin and
  /// end count from col.
  template <class F>
  void for_each_run(std::int64_t row, std::int64_t col, std::int64_t count, F&& f) const noexcept {
    for (std::int64_t at = 0; at < count;) {
      const std::int64_t in_block = (col + at) % block_cols_;
      const std::int64_t end = std::min(count, at + block_cols_ - in_block);
      f(index(row, col + at), at, end);
      at = end;
    }
  }

  /// What a byte of codes stands for, before scale and zero point.
  [[nodiscard]] float code_value(std::uint8_t code) const noexcept {
    if (is_float8_) return float8_value(params_.scheme.dtype, code);
    return static_cast<float>(is_unsigned_ ? std::int32_t{code}
                                           : std::int32_t{static_cast<std::int8_t>(code)});
  }

  // quanto's formulas: clamp(rne((x + shift) / scale)), clamp(rne(x / scale) + zero) and, for 8-bit
  // floats, the nearest element to clamp(x / scale); every operation is rounded to the arithmetic
  // type. A scale of 0 is a constant block.
  [[nodiscard]] std::uint8_t special_code(float x, std::size_t block) const noexcept {
    const DType type = params_.arithmetic;
    const bool shifted = !params_.shift.empty();
    float value = round_to(type, x);
    if (shifted) value = round_to(type, value + params_.shift[block]);
    // The code of 0, as everywhere: with a shift that is shift / scale.
    if (value != value) value = shifted ? params_.shift[block] : 0.0f;
    float code = 0;
    if (params_.scale[block] != 0) {
      const bool divide = params_.order() == RoundOrder::divide;
      code = round_to(type, divide ? value / factor_[block] : value * factor_[block]);
      if (!is_float8_) code = round_half_even(code) + zero_[block];
    }
    code = std::clamp(code, static_cast<float>(params_.scheme.lowest),
                      static_cast<float>(params_.scheme.highest));
    if (is_float8_) return float8_code(params_.scheme.dtype, code);
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(code));
  }

  [[nodiscard]] float special_value(float code, std::size_t block) const noexcept {
    const DType type = params_.arithmetic;
    float value = round_to(type, separate_rounding((code - zero_[block]) * params_.scale[block]));
    if (!params_.shift.empty()) value = round_to(type, value - params_.shift[block]);
    return value;
  }

  const QuantParams& params_;
  std::vector<float> factor_;  // inv_scale, or scale for RoundOrder::divide
  std::vector<float> zero_;
  std::int64_t block_rows_;
  std::int64_t block_cols_;
  std::int64_t grid_cols_;
  bool is_unsigned_;
  bool is_float8_;
};

}  // namespace kvant::detail
