#pragma once

/// @file
/// LLM.int8() (arXiv 2208.07339) as a template that needs no library: src/numerics.md's section
/// "LLM.int8()" word by word, the reference for every kernel. The compiled kvant::llm_int8_matmul
/// takes the same arguments and gives the same bits, a hundred times faster. (Arithmetic::exact, a
/// product of floats, and int15 are in the compiled one alone.)

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvant/activation_options.hpp"
#include "kvant/config.hpp"
#include "kvant/core/activation_checks.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/static_activations.hpp"
#include "kvant/core/visit_float.hpp"
#include "kvant/float16.hpp"
#include "kvant/float_element.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quantize.hpp"
#include "kvant/round_order.hpp"

namespace kvant::core {

namespace detail {

/// Rows of int8 codes with an absmax each.
struct Int8Rows {
  std::int64_t cols = 0;
  std::vector<std::int8_t> codes;
  std::vector<float> absmax;  ///< NaN: the row has a NaN or (of weights) an infinity

  [[nodiscard]] const std::int8_t* row(std::int64_t r) const noexcept {
    return codes.data() + r * cols;
  }
};

/// How rows become codes.
struct Int8Rule {
  bool bitsandbytes = false;  ///< through fp16, its reciprocal; stats are the absmax itself
  float threshold = std::numeric_limits<float>::infinity();  ///< of outliers
  const std::vector<bool>* kept = nullptr;                   ///< columns that count as 0
  std::vector<bool>* outliers = nullptr;  ///< gets the columns with one; null: it makes a NaN
  bool one_absmax = false;                ///< the largest of all rows, for every row

  [[nodiscard]] float load(float value, std::int64_t column) const noexcept {
    if (kept != nullptr && (*kept)[static_cast<std::size_t>(column)]) return 0.0f;
    return bitsandbytes ? static_cast<float>(float16(value)) : value;
  }
};

template <class T>
void find_absmax(const MatrixView<T>& x, const Int8Rule& rule, Int8Rows& rows) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    float absmax = 0.0f;
    bool poisoned = false;
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      const float magnitude = std::fabs(rule.load(static_cast<float>(x(r, c)), c));
      if (magnitude < rule.threshold) {
        if (magnitude > absmax) absmax = magnitude;
      } else if (magnitude == magnitude && rule.outliers != nullptr) {
        (*rule.outliers)[static_cast<std::size_t>(c)] = true;
      } else {
        poisoned = true;
      }
    }
    rows.absmax.push_back(poisoned ? std::numeric_limits<float>::quiet_NaN() : absmax);
  }
  if (!rule.one_absmax) return;
  float largest = 0.0f;
  for (const float absmax : rows.absmax) largest = absmax > largest ? absmax : largest;
  for (float& absmax : rows.absmax) absmax = absmax == absmax ? largest : absmax;
}

template <class T>
Int8Rows quantize_rows(const MatrixView<T>& x, const Int8Rule& rule) {
  Int8Rows rows;
  rows.cols = x.cols();
  rows.codes.resize(static_cast<std::size_t>(x.size()));
  find_absmax(x, rule, rows);
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    float& absmax = rows.absmax[static_cast<std::size_t>(r)];
    if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
    if (!(absmax > 0.0f)) continue;  // zeros, or a NaN
    const float inverse_scale = rule.bitsandbytes ? 1.0f / absmax * 127.0f : 127.0f / absmax;
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      const float value = rule.load(static_cast<float>(x(r, c)), c);
      if (!(std::fabs(value) < rule.threshold)) continue;
      rows.codes[static_cast<std::size_t>(r * x.cols() + c)] =
          static_cast<std::int8_t>(quantize_value(value, inverse_scale, 0, -127, 127));
    }
  }
  return rows;
}

/// The product, with everything validated. X, W: typed views.
template <class X, class W>
class LlmInt8 {
 public:
  LlmInt8(const char* who, const X& x, const W& w, const ConstAnyMatrix& bias,
          const ActivationOptions& options)
      : who_(who), x_(x), w_(w), bias_(bias), options_(options) {
    choose_columns();
    if (options_.static_params != nullptr) {
      quantize_statically();
      return;
    }
    weights_ = quantize_rows(w_, {.bitsandbytes = is_bitsandbytes()});
    if (options_.check_finite) check_finite(weights_, "the weights of output ");
    const bool searches = options_.threshold > 0 && options_.outliers != Outliers::calibrated;
    const float threshold = searches ? options_.threshold : std::numeric_limits<float>::infinity();
    // bitsandbytes does not look for outliers at threshold 0: an infinity makes the row NaN.
    const bool ignores = is_bitsandbytes() && options_.threshold == 0;
    std::vector<bool> found(static_cast<std::size_t>(x_.cols()));
    activations_ =
        quantize_rows(x_, {.bitsandbytes = is_bitsandbytes(),
                           .threshold = threshold,
                           .kept = kept_.empty() ? nullptr : &is_kept_,
                           .outliers = ignores ? nullptr : &found,
                           .one_absmax = options_.activation_scale == ActivationScale::per_tensor});
    const bool whole = options_.outliers == Outliers::per_call && options_.threshold > 0;
    outlying_from_ = whole ? 0.0f : threshold;
    for (std::int64_t c = 0; c < x_.cols(); ++c) {
      if (!found[static_cast<std::size_t>(c)]) continue;
      found_.push_back(c);
      for (std::int64_t m = 0; whole && m < x_.rows(); ++m) {
        activations_.codes[static_cast<std::size_t>(m * x_.cols() + c)] = 0;
      }
    }
    if (options_.check_finite) check_finite_activations();
  }

  /// y[m, n] in fp32, as it is before the last rounding.
  [[nodiscard]] float value(std::int64_t m, std::int64_t n, DType y_type) const noexcept {
    using kvant::detail::round_to, kvant::detail::separate_rounding;
    std::int32_t sum = 0;
    const std::int8_t* const a = activations_.row(m);
    const std::int8_t* const b = weights_.row(n);
    for (std::int64_t k = 0; k < x_.cols(); ++k) {
      const std::int32_t zero = zeros_.empty() ? 0 : zeros_[static_cast<std::size_t>(k)];
      sum += (std::int32_t{a[k]} - zero) * std::int32_t{b[k]};
    }
    const float row = activations_.absmax[static_cast<std::size_t>(m)];
    const float column = weights_.absmax[static_cast<std::size_t>(n)];
    const bool has_outliers = !kept_.empty() || !found_.empty();
    const float bias =
        bias_.rows == 0 ? 0.0f : kvant::detail::load_element(bias_.data, bias_.dtype, n);
    if (is_bitsandbytes()) {
      float value = separate_rounding(static_cast<float>(sum) * (row * column) *
                                      kvant::detail::kBitsandbytesScale);
      if (bias_.rows != 0) value += round_to(kX, bias);
      return has_outliers ? round_to(y_type, value) + outliers(m, n) : value;
    }
    const float row_scale = options_.static_params != nullptr ? row : row / 127.0f;
    float value = separate_rounding(static_cast<float>(sum) * (row_scale * (column / 127.0f)));
    if (has_outliers) value += outliers(m, n);
    return bias_.rows != 0 ? value + bias : value;
  }

 private:
  static constexpr DType kX = dtype_of<typename X::value_type>;

  [[nodiscard]] bool is_bitsandbytes() const noexcept {
    return options_.arithmetic == Arithmetic::bitsandbytes;
  }

  /// Codes by static parameters; scales of groups of features go into the weights.
  void quantize_statically() {
    const std::int64_t k = x_.cols();
    const QuantParams& params = *options_.static_params;
    if (k == 0) {
      weights_ = quantize_rows(w_, {});
      activations_.absmax.assign(static_cast<std::size_t>(x_.rows()), 0.0f);
      return;
    }
    const kvant::detail::StaticActivations statics(params, k);
    const kvant::detail::BlockParams blocks(params, 1, k);
    std::vector<float> folded;
    folded.reserve(static_cast<std::size_t>(w_.size()));
    for (std::int64_t n = 0; n < w_.rows(); ++n) {
      for (std::int64_t c = 0; c < k; ++c) {
        folded.push_back(static_cast<float>(w_(n, c)) * statics.fold(c));
      }
    }
    weights_ = quantize_rows(MatrixView<const float>(folded.data(), w_.rows(), k), {});
    if (options_.check_finite) {
      check_finite(weights_, "the weights of output ");
      check_finite_activations();
    }
    for (std::int64_t c = 0; c < k; ++c) zeros_.push_back(statics.zero(c));
    activations_.cols = k;
    activations_.absmax.assign(static_cast<std::size_t>(x_.rows()), statics.scale());
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(k));
    for (std::int64_t m = 0; m < x_.rows(); ++m) {
      blocks.quantize_row(
          0, 0, k, [&](std::int64_t c) { return static_cast<float>(x_(m, c)); }, codes.data());
      for (std::int64_t c = 0; c < k; ++c) {
        const auto at = static_cast<std::size_t>(c);
        const std::int32_t code = statics.shift() != 0
                                      ? std::int32_t{codes[at]} - statics.shift()
                                      : std::int32_t{static_cast<std::int8_t>(codes[at])};
        activations_.codes.push_back(static_cast<std::int8_t>(is_kept_[at] ? zeros_[at] : code));
      }
    }
  }

  /// Kept columns: those that were given, or, as the paper has it, the outlier columns of x, whose
  /// weights are taken from w in half precision.
  void choose_columns() {
    kept_.assign(options_.keep_columns.begin(), options_.keep_columns.end());
    is_kept_.resize(static_cast<std::size_t>(x_.cols()));
    if (kept_.empty() && options_.static_params == nullptr &&
        options_.arithmetic == Arithmetic::kvant && options_.outliers == Outliers::per_call &&
        options_.threshold > 0) {
      for (std::int64_t c = 0; c < x_.cols(); ++c) {
        bool outlying = false;
        for (std::int64_t r = 0; r < x_.rows(); ++r) {
          outlying |= std::fabs(static_cast<float>(x_(r, c))) >= options_.threshold;
        }
        if (outlying) kept_.push_back(c);
      }
    }
    for (const std::int64_t c : kept_) is_kept_[static_cast<std::size_t>(c)] = true;
    for (std::int64_t n = 0; n < w_.rows(); ++n) {
      for (const std::int64_t c : kept_) {  // one beyond fp16 puts all into bf16
        const auto weight = static_cast<float>(w_(n, c));
        if (std::isfinite(weight) && std::isinf(static_cast<float>(float16(weight)))) {
          kept_type_ = DType::bfloat16;
        }
      }
    }
  }

  /// The fma chain over kept features, then found ones, each ascending, from zero.
  [[nodiscard]] float outliers(std::int64_t m, std::int64_t n) const noexcept {
    using kvant::detail::round_to, kvant::detail::separate_rounding;
    float sum = 0.0f;
    for (const std::int64_t c : kept_) {
      const float weight = round_to(kept_type_, static_cast<float>(w_(n, c)));
      sum = std::fma(static_cast<float>(x_(m, c)), weight, sum);
    }
    const float absmax = weights_.absmax[static_cast<std::size_t>(n)];
    for (const std::int64_t c : found_) {
      const auto x = static_cast<float>(x_(m, c));
      const bool outlying = outlying_from_ == 0.0f || std::fabs(x) >= outlying_from_;
      const auto code = static_cast<float>(weights_.row(n)[c]);
      const float weight = is_bitsandbytes()
                               ? round_to(kX, code * absmax * kvant::detail::kInverse127)
                               : code * (absmax / 127.0f);
      sum = std::fma(outlying ? x : 0.0f, separate_rounding(weight), sum);
    }
    return sum;
  }

  void check_finite(const Int8Rows& rows, const char* what) const {
    for (std::size_t r = 0; r < rows.absmax.size(); ++r) {
      if (std::isfinite(rows.absmax[r])) continue;
      kvant::detail::fail(ErrorCode::not_finite,
                          std::string(who_) + ": " + what + std::to_string(r) + " have NaN or Inf");
    }
  }
  void check_finite_activations() const {
    for (std::int64_t m = 0; m < x_.rows(); ++m) {
      for (std::int64_t c = 0; c < x_.cols(); ++c) {
        if (std::isfinite(static_cast<float>(x_(m, c)))) continue;
        kvant::detail::fail(ErrorCode::not_finite, std::string(who_) + ": row " +
                                                       std::to_string(m) + " of x has NaN or Inf");
      }
    }
  }

  const char* who_;
  X x_;
  W w_;
  ConstAnyMatrix bias_;
  ActivationOptions options_;
  std::vector<std::int64_t> kept_;
  std::vector<bool> is_kept_;
  DType kept_type_ = DType::float16;
  Int8Rows weights_;
  Int8Rows activations_;
  std::vector<std::int64_t> found_;
  std::vector<std::int32_t> zeros_;  ///< of each feature's static codes; empty: all 0
  float outlying_from_ = 0;
};

}  // namespace detail

/// y [M, N] = x [M, K] w^T + bias by LLM.int8(), both sides quantized in this call.
/// @param x, w   matrices of float, float16 or bfloat16; w is [N, K] as nn.Linear stores it
/// @param y      a MatrixView, Matrix, std::span or AnyMatrix of these types; it must not overlap x
/// @param bias   [1, N], or empty
/// @throws Error shape_mismatch, invalid_argument, unsupported (Arithmetic::exact and int15, 8-bit
///         floats), out_of_range, not_finite
template <FloatMatrix X, FloatMatrix W, FloatOutput Y>
void llm_int8_matmul(const X& x, const W& w, Y&& y, ConstAnyMatrix bias = {},
                     const Int8Options& options = {}) {
  constexpr const char* kWho = "llm_int8_matmul";
  const kvant::detail::ScopedFloatEnvironment environment;
  const auto x_view = detail::view_of(x);
  const auto w_view = detail::view_of(w);
  const auto y_view = detail::view_of(y);
  const ConstAnyMatrix any_x(x_view);
  const ConstAnyMatrix any_w(w_view);
  const AnyMatrix any_y(y_view);
  kvant::detail::check_float(kWho, "x", any_x);
  kvant::detail::check_float(kWho, "weights", any_w);
  kvant::detail::check_activation_options(kWho, options, any_w.cols);
  kvant::detail::check_calibrated(kWho, options);
  if (options.arithmetic == Arithmetic::exact || options.arithmetic == Arithmetic::int15) {
    kvant::detail::fail(ErrorCode::unsupported,
                        std::string(kWho) +
                            ": Arithmetic::exact and int15 are not LLM.int8(); kvant::Linear has "
                            "them; kvant and bitsandbytes are possible");
  }
  if (options.static_params != nullptr) {
    kvant::detail::check_static_params(kWho, *options.static_params, any_w.cols);
  }
  if (kvant::detail::activation_type(options) != DType::int8) {
    kvant::detail::fail(ErrorCode::unsupported,
                        std::string(kWho) +
                            ": activations in 8-bit floats are multiplied as "
                            "floats, which kvant::Linear does");
  }
  if (options.static_params != nullptr && any_w.cols > 0) {
    kvant::detail::StaticActivations(*options.static_params, any_w.cols)
        .check_sums(kWho, any_w.cols);
  }
  kvant::detail::check_bias(kWho, bias, any_w.rows);
  kvant::detail::check_inner_dimension(kWho, any_w.cols);
  if (any_x.cols != any_w.cols) {
    kvant::detail::fail(ErrorCode::shape_mismatch,
                        std::string(kWho) + ": x has " + std::to_string(any_x.cols) +
                            " columns, the layer takes " + std::to_string(any_w.cols) + " inputs");
  }
  kvant::detail::check_float(kWho, "y", any_y);
  kvant::detail::check_writable(kWho, "y", any_y);
  kvant::detail::check_result_shape(kWho, any_y, any_x.rows, any_w.rows);
  if (kvant::detail::overlap(any_x, any_y)) {
    kvant::detail::fail(ErrorCode::invalid_argument, std::string(kWho) + ": y overlaps x");
  }
  detail::visit_float(x_view, [&](const auto& xs) {
    detail::visit_float(w_view, [&](const auto& ws) {
      const detail::LlmInt8 product(kWho, xs, ws, bias, options);
      detail::visit_float(y_view, [&](const auto& ys) {
        using T = typename std::remove_cvref_t<decltype(ys)>::value_type;
        // y may be where the weights or the bias are: first all values, then all writes.
        std::vector<T> values;
        values.reserve(static_cast<std::size_t>(ys.size()));
        for (std::int64_t m = 0; m < ys.rows(); ++m) {
          for (std::int64_t n = 0; n < ys.cols(); ++n) {
            values.push_back(static_cast<T>(product.value(m, n, dtype_of<T>)));
          }
        }
        for (std::int64_t m = 0; m < ys.rows(); ++m) {
          std::copy_n(values.data() + m * ys.cols(), ys.cols(), ys.row_data(m));
        }
      });
    });
  });
}

}  // namespace kvant::core
