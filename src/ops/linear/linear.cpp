#include "kvant/linear.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "kvant/adapter.hpp"
#include "kvant/core/activation_checks.hpp"
#include "kvant/linear_quantizer.hpp"
#include "ops/linear/linear_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

/// Stores value(n, j) for every kept column: fp16, or bf16 for all when one leaves fp16's range.
template <class Value>
void keep_weights(LayerWeights& w, std::int64_t count, Value&& value) {
  const std::int64_t n_count = w.packed.n();
  const std::int64_t nr = w.packed.layout().nr;
  w.kept = AlignedArray<std::uint16_t>(
      static_cast<std::size_t>(w.packed.layout().padded_n(n_count) * count), std::uint16_t{0});
  for (std::int64_t n = 0; n < n_count; ++n) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float v = value(n, j);
      if (std::isfinite(v) && std::isinf(static_cast<float>(float16(v)))) {
        w.kept_dtype = DType::bfloat16;
      }
    }
  }
  for (std::int64_t n = 0; n < n_count; ++n) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float v = value(n, j);
      w.kept[static_cast<std::size_t>((n / nr) * count * nr + j * nr + n % nr)] =
          w.kept_dtype == DType::bfloat16 ? float_to_bfloat_bits(v) : float_to_half_bits(v);
    }
  }
}

void check_weights_finite(const char* who, const PackedWeights& w) {
  const auto check = [who](std::int64_t n, std::span<const float> values) {
    if (std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return;
    fail(ErrorCode::not_finite,
         std::string(who) + ": the weights of output " + std::to_string(n) + " have NaN or Inf");
  };
  const std::vector<float> absmax = w.absmax_values();
  for (std::size_t n = 0; n < absmax.size(); ++n) {
    check(static_cast<std::int64_t>(n), std::span(absmax).subspan(n, 1));
  }
  if (!absmax.empty() || w.format() == WeightFormat::int8_row) return;
  // Formats without an absmax of each output: the weights themselves, some at a time.
  constexpr std::int64_t kRows = 64;
  Matrix<float> values(std::min(kRows, w.n()), w.k());
  for (std::int64_t first = 0; first < w.n(); first += kRows) {
    const std::int64_t rows = std::min(kRows, w.n() - first);
    w.dequantize(MatrixView<float>(values.data(), rows, w.k()), first);
    for (std::int64_t r = 0; r < rows; ++r) {
      check(first + r, {values.data() + r * w.k(), static_cast<std::size_t>(w.k())});
    }
  }
}

}  // namespace

Linear Linear::assemble(const char* who, PackedWeights weights, ConstAnyMatrix bias,
                        const ActivationOptions& options, ConstAnyMatrix kept_weights,
                        bool folded) {
  check_bias(who, bias, weights.n());
  // (Without inputs, formats with blocks have no scales.)
  if (weights.n() > 0 && !describe(weights.format()).is_float() && !weights.state().has_scales() &&
      weights.state().row_scales() > 0) {
    fail(ErrorCode::invalid_argument,
         std::string(who) + ": the weights are codes alone; pack them with their absmax");
  }
  auto state = std::make_shared<State>();
  state->rules = ActivationRules::of(who, options, weights.k(),
                                     weights.n() > 0 ? weights.state().memory : nullptr);
  std::int64_t kept = state->rules->kept();
  if (kept > 0 || kept_weights.rows != 0) {
    check_float(who, "kept_weights", kept_weights);
    if (kept_weights.rows != weights.n() || kept_weights.cols != kept) {
      fail(ErrorCode::shape_mismatch, std::string(who) + ": kept_weights is " +
                                          shape_text(kept_weights.rows, kept_weights.cols) + "; " +
                                          shape_text(weights.n(), kept) +
                                          " is wanted, one column per kept column");
    }
  }
  if (options.check_finite) check_weights_finite(who, weights);
  const bool integers =
      weights.n() > 0 && multiplied_as_integers(weights, state->rules->options.arithmetic);
  if (integers && state->rules->is_int15()) check_int15_memory(who, weights.state().memory);
  if (integers && !folded && folds_scales(*state->rules, weights.k())) {
    fail(ErrorCode::unsupported,
         std::string(who) +
             ": static scales of groups of features go into the weights before "
             "these are quantized: Linear::quantize from floats does so");
  }
  if (kept > 0 && weights.n() > 0 && !integers) {
    if (state->rules->rounds_floats()) {
      fail(ErrorCode::unsupported, std::string(who) +
                                       ": kept columns beside activations that are "
                                       "rounded and multiplied as floats");
    }
    // Multiplied in float: no column is kept apart, and the layer does not say that one is.
    ActivationOptions without = options;
    without.keep_columns = {};
    state->rules = ActivationRules::of(who, without, weights.k(), weights.state().memory);
    kept = 0;
  }
  state->folded = folded;
  LayerWeights& layer = state->weights;
  layer.packed = std::move(weights);
  if (bias.rows != 0) {
    const std::int64_t n = layer.packed.n();
    layer.bias =
        AlignedArray<float>(static_cast<std::size_t>(layer.packed.layout().padded_n(n)), 0.0f);
    layer.bias_dtype = bias.dtype;
    for (std::int64_t i = 0; i < n; ++i) {
      layer.bias[static_cast<std::size_t>(i)] = load_float(bias, 0, i);
    }
  }
  if (kept > 0) {
    keep_weights(layer, kept,
                 [&](std::int64_t n, std::int64_t j) { return load_float(kept_weights, n, j); });
  }
  if (integers && state->rules->is_static()) {
    fold_zero_points(who, layer, *state->rules->static_params);
  }
  layer.place();
  return Linear(std::move(state));
}

Linear Linear::quantize_as(const char* who, Context& context, ConstAnyMatrix weights,
                           WeightFormat format, ConstAnyMatrix bias,
                           const ActivationOptions& options, const PackOptions& packing) {
  return at_border(who, [&] {
    check_float(who, "weights", weights);
    const auto rules = ActivationRules::of(who, options, weights.cols);
    check_calibrated(who, options);
    check_bias(who, bias, weights.rows);
    // The weights of the kept columns, side by side.
    std::vector<float> kept;
    kept.reserve(static_cast<std::size_t>(weights.rows * rules->kept()));
    for (std::int64_t n = 0; n < weights.rows; ++n) {
      for (const std::int64_t column : rules->keep_columns) {
        kept.push_back(load_float(weights, n, column));
      }
    }
    const ConstAnyMatrix kept_view =
        rules->kept() == 0 ? ConstAnyMatrix()
                           : MatrixView<const float>(kept.data(), weights.rows, rules->kept());
    PackOptions pack = packing;
    pack.arithmetic = rules->options.arithmetic;
    if (folds_scales(*rules, weights.cols) && weights.rows > 0) {
      const Matrix<float> folded = fold_scales(weights, *rules->static_params);
      PackedWeights packed = PackedWeights::quantize(context, folded, format, pack);
      if (multiplied_as_integers(packed, pack.arithmetic)) {
        return assemble(who, std::move(packed), bias, options, kept_view, true);
      }
    }
    return assemble(who, PackedWeights::quantize(context, weights, format, pack), bias, options,
                    kept_view);
  });
}

Linear Linear::quantize(ConstAnyMatrix weights, WeightFormat format, ConstAnyMatrix bias,
                        const ActivationOptions& options, const PackOptions& packing) {
  return quantize(default_context(), weights, format, bias, options, packing);
}
Linear Linear::quantize(Context& context, ConstAnyMatrix weights, WeightFormat format,
                        ConstAnyMatrix bias, const ActivationOptions& options,
                        const PackOptions& packing) {
  return quantize_as("Linear::quantize", context, weights, format, bias, options, packing);
}

Linear Linear::from(PackedWeights weights, ConstAnyMatrix bias, const ActivationOptions& options,
                    ConstAnyMatrix kept_weights) {
  constexpr const char* kWho = "Linear::from";
  return at_border(kWho,
                   [&] { return assemble(kWho, std::move(weights), bias, options, kept_weights); });
}

Linear Linear::from(Context& context, const QuantizedMatrix& weights, ConstAnyMatrix bias,
                    const ActivationOptions& options) {
  return from(PackedWeights::from(context, weights), bias, options);
}

std::int64_t Linear::in_features() const noexcept {
  return weights().k();
}
std::int64_t Linear::out_features() const noexcept {
  return weights().n();
}
WeightFormat Linear::format() const noexcept {
  return weights().format();
}
const PackedWeights& Linear::weights() const noexcept {
  static const PackedWeights empty;
  return state_ != nullptr ? state_->weights.packed : empty;
}
bool Linear::has_bias() const noexcept {
  return state_ != nullptr && !state_->weights.bias.empty();
}
const ActivationOptions& Linear::options() const noexcept {
  static const ActivationOptions defaults;
  return state_ != nullptr ? state_->rules->options : defaults;
}

std::vector<float> Linear::kept_weights() const {
  std::vector<float> kept;
  const auto count = static_cast<std::int64_t>(options().keep_columns.size());
  kept.reserve(static_cast<std::size_t>(out_features() * count));
  for (std::int64_t n = 0; n < out_features(); ++n) {
    for (std::int64_t j = 0; j < count; ++j) kept.push_back(state_->kept_weight(n, j));
  }
  return kept;
}

void Linear::dequantize(AnyMatrix w) const {
  weights().dequantize(w);
  if (state_ != nullptr && state_->folded && w.cols > 0) {
    const StaticActivations statics(*state_->rules->static_params, w.cols);
    for (std::int64_t n = 0; n < w.rows; ++n) {
      for (std::int64_t k = 0; k < w.cols; ++k) {
        store_float(w, n, k, load_float(w, n, k) / statics.fold(k));
      }
    }
  }
  const std::span<const std::int64_t> columns = options().keep_columns;
  for (std::int64_t n = 0; n < w.rows; ++n) {
    for (std::size_t j = 0; j < columns.size(); ++j) {
      store_float(w, n, columns[j], state_->kept_weight(n, static_cast<std::int64_t>(j)));
    }
  }
}

std::size_t Linear::memory_footprint() const noexcept {
  if (state_ == nullptr) return 0;
  const LayerWeights& w = state_->weights;
  return w.packed.bytes() + w.bias.bytes() + w.kept.bytes() + w.offsets.bytes() +
         w.shifted_bias.bytes() + state_->rules->keep_mask.bytes() +
         state_->rules->keep_columns.size() * sizeof(std::int64_t) +
         (adapter_ != nullptr ? adapter_->memory_footprint() : 0);
}

std::size_t Linear::weight_bytes() const noexcept {
  const auto out = static_cast<std::size_t>(out_features());
  const std::size_t bias = has_bias() ? out * sizeof(float) : 0;
  return weights().stored_bytes() + bias + options().keep_columns.size() * out * 2 +
         (adapter_ != nullptr ? adapter_->weight_bytes() : 0);
}

}  // namespace kvant
