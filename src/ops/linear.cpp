#include "kvant/linear.hpp"

#include <new>
#include <string>
#include <utility>

#include "ops/int8_weights.hpp"
#include "ops/validate.hpp"

namespace kvant {

struct Int8Linear::State {
  detail::Int8Weights weights;
};

namespace {

const detail::Int8Weights& no_weights() noexcept {
  static const detail::Int8Weights empty;
  return empty;
}

/// std::bad_alloc becomes the library's own error at the border.
template <class Function>
auto with_memory_errors(const char* who, Function&& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory, std::string(who) + ": out of memory");
  }
}

}  // namespace

Int8Linear Int8Linear::quantize(ConstAnyMatrix weights, ConstAnyMatrix bias,
                                const Int8Options& options) {
  return quantize(default_context(), weights, bias, options);
}

Int8Linear Int8Linear::quantize(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias,
                                const Int8Options& options) {
  return with_memory_errors("Int8Linear::quantize", [&] {
    return Int8Linear(std::make_shared<const State>(
        State{detail::quantize_weights(context, weights, bias, options)}));
  });
}

Int8Linear Int8Linear::from_codes(MatrixView<const std::int8_t> codes,
                                  std::span<const float> absmax, ConstAnyMatrix bias,
                                  const Int8Options& options, ConstAnyMatrix kept_weights) {
  return from_codes(default_context(), codes, absmax, bias, options, kept_weights);
}

Int8Linear Int8Linear::from_codes(Context& context, MatrixView<const std::int8_t> codes,
                                  std::span<const float> absmax, ConstAnyMatrix bias,
                                  const Int8Options& options, ConstAnyMatrix kept_weights) {
  return with_memory_errors("Int8Linear::from_codes", [&] {
    return Int8Linear(std::make_shared<const State>(State{
        detail::weights_from_codes(context, codes, absmax, bias, options, kept_weights)}));
  });
}

void Int8Linear::forward(ConstAnyMatrix x, AnyMatrix y) const { forward(default_context(), x, y); }

void Int8Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  const detail::Int8Weights& weights = state_ != nullptr ? state_->weights : no_weights();
  with_memory_errors("Int8Linear::forward",
                     [&] { detail::int8_forward(context, weights, x, y); });
}

Status Int8Linear::try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept {
  try {
    forward(context, x, y);
    return {};
  } catch (const Error& error) {
    return {error.code()};
  } catch (...) {  // an Executor of the caller's, or no memory left for the message
    return {ErrorCode::out_of_memory};
  }
}

std::int64_t Int8Linear::in_features() const noexcept {
  return state_ != nullptr ? state_->weights.k() : 0;
}
std::int64_t Int8Linear::out_features() const noexcept {
  return state_ != nullptr ? state_->weights.n() : 0;
}
bool Int8Linear::has_bias() const noexcept {
  return state_ != nullptr && !state_->weights.bias.empty();
}
float Int8Linear::threshold() const noexcept {
  return (state_ != nullptr ? state_->weights : no_weights()).options.threshold;
}
Outliers Int8Linear::outliers() const noexcept {
  return (state_ != nullptr ? state_->weights : no_weights()).options.outliers;
}
Arithmetic Int8Linear::arithmetic() const noexcept {
  return (state_ != nullptr ? state_->weights : no_weights()).options.arithmetic;
}

std::vector<std::int8_t> Int8Linear::codes() const {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(out_features() * in_features()));
  if (state_ != nullptr) {
    state_->weights.codes.unpack_rows(
        0, MatrixView<std::int8_t>(codes.data(), out_features(), in_features()));
  }
  return codes;
}

std::span<const float> Int8Linear::absmax() const noexcept {
  if (state_ == nullptr) return {};
  return {state_->weights.absmax.data(), static_cast<std::size_t>(out_features())};
}

std::span<const std::int64_t> Int8Linear::keep_columns() const noexcept {
  if (state_ == nullptr) return {};
  return state_->weights.keep_columns;
}

std::vector<float> Int8Linear::kept_weights() const {
  std::vector<float> kept;
  const auto count = static_cast<std::int64_t>(keep_columns().size());
  kept.reserve(static_cast<std::size_t>(out_features() * count));
  for (std::int64_t n = 0; n < out_features(); ++n) {
    for (std::int64_t j = 0; j < count; ++j) kept.push_back(state_->weights.kept_weight(n, j));
  }
  return kept;
}

void Int8Linear::dequantize(AnyMatrix w) const {
  constexpr const char* kWho = "Int8Linear::dequantize";
  detail::check_float(kWho, "w", w);
  detail::check_writable(kWho, "w", w);
  if (w.rows != out_features() || w.cols != in_features()) {
    detail::fail(ErrorCode::shape_mismatch,
                 std::string(kWho) + ": w is " + detail::shape_text(w.rows, w.cols) +
                     ", the layer " + detail::shape_text(out_features(), in_features()));
  }
  std::vector<std::int8_t> codes(static_cast<std::size_t>(w.cols));
  for (std::int64_t n = 0; n < w.rows; ++n) {
    const detail::Int8Weights& weights = state_->weights;
    weights.codes.unpack_rows(n, MatrixView<std::int8_t>(codes.data(), 1, w.cols));
    const float absmax = weights.absmax[static_cast<std::size_t>(n)];
    for (std::int64_t k = 0; k < w.cols; ++k) {
      const auto code = static_cast<float>(codes[static_cast<std::size_t>(k)]);
      detail::store_float(w, n, k, code * absmax * detail::kInverse127);
    }
    for (std::size_t j = 0; j < weights.keep_columns.size(); ++j) {
      detail::store_float(w, n, weights.keep_columns[j],
                          weights.kept_weight(n, static_cast<std::int64_t>(j)));
    }
  }
}

std::size_t Int8Linear::memory_footprint() const noexcept {
  if (state_ == nullptr) return 0;
  const detail::Int8Weights& w = state_->weights;
  return w.codes.bytes() + w.absmax.bytes() + w.col_factor.bytes() + w.bias.bytes() +
         w.kept.bytes() + w.keep_mask.bytes() + w.keep_columns.size() * sizeof(std::int64_t);
}

std::size_t Int8Linear::weight_bytes() const noexcept {
  const auto out = static_cast<std::size_t>(out_features());
  const auto in = static_cast<std::size_t>(in_features());
  const std::size_t bias = has_bias() ? out * sizeof(float) : 0;
  return out * in + out * sizeof(float) + bias + keep_columns().size() * out * 2;
}

}  // namespace kvant
