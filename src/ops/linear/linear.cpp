#include "kvant/linear.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "kvant/adapter.hpp"
#include "kvant/core/activation_checks.hpp"
#include "kvant/linear_quantizer.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

struct Linear::State {
  LayerWeights weights;
  std::shared_ptr<const ActivationRules> rules;

  [[nodiscard]] const GemmKernels& kernels(const KernelTable& table) const noexcept {
    return multiplying_kernels(table, weights.packed, rules->options.arithmetic);
  }
  /// The first stage: x quantized by the rules, or converted.
  [[nodiscard]] Activations prepare(const char* who, Context& context, Workspace& memory,
                                    const ConstAnyMatrix& x) const {
    const GemmKernels& own = kernels(context.kernels());
    return own.gather_columns != nullptr
               ? detail::quantize_activations(who, context, memory, own, *rules, x)
               : convert_activations(context, memory, own, x);
  }
  [[nodiscard]] float kept_weight(std::int64_t n, std::int64_t j) const noexcept {
    const std::int64_t nr = weights.packed.layout().nr;
    const std::uint16_t bits =
        weights.kept[static_cast<std::size_t>((n / nr) * rules->kept() * nr + j * nr + n % nr)];
    return weights.kept_dtype == DType::bfloat16 ? bfloat_bits_to_float(bits)
                                                 : half_bits_to_float(bits);
  }
};

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

/// By the kernels that the weights are packed for.
bool multiplied_as_integers(const PackedWeights& w, Arithmetic arithmetic) noexcept {
  return w.state().kernels.gather_columns != nullptr && multiplies_integers(w.format(), arithmetic);
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

void check_kernels(const char* who, const PackedWeights& weights, const Context& context) {
  if (weights.fits(context.kernels())) return;
  fail(ErrorCode::unsupported, std::string(who) + ": the weights are packed for \"" +
                                   std::string(weights.packed_for()) + "\", the context runs \"" +
                                   context.kernels().name +
                                   "\"; build the layer with the same context");
}

void check_output(const char* who, const AnyMatrix& y, std::int64_t rows, std::int64_t cols) {
  check_float(who, "y", y);
  check_writable(who, "y", y);
  check_result_shape(who, y, rows, cols);
}

void check_columns(const char* who, const ConstAnyMatrix& x, std::int64_t inputs) {
  if (x.cols == inputs) return;
  fail(ErrorCode::shape_mismatch, std::string(who) + ": x has " + std::to_string(x.cols) +
                                      " columns, the layer takes " + std::to_string(inputs) +
                                      " inputs");
}

/// Where the kernels are. Asking costs a microsecond, so only debug builds do.
void check_reachable([[maybe_unused]] const char* who, [[maybe_unused]] const char* what,
                     [[maybe_unused]] const ConstAnyMatrix& m,
                     [[maybe_unused]] const Context& context) {
#if !defined(NDEBUG)
  if (context.memory() == nullptr || context.memory()->reaches(m.data)) return;
  fail(ErrorCode::invalid_argument, std::string(who) + ": " + what +
                                        " is in host memory, the context runs \"" +
                                        context.kernels().name + "\"");
#endif
}

}  // namespace

Linear Linear::assemble(const char* who, PackedWeights weights, ConstAnyMatrix bias,
                        const ActivationOptions& options, ConstAnyMatrix kept_weights) {
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
  if (kept > 0 && weights.n() > 0 && !multiplied_as_integers(weights, options.arithmetic)) {
    // Multiplied in float: no column is kept apart, and the layer does not say that one is.
    ActivationOptions without = options;
    without.keep_columns = {};
    state->rules = ActivationRules::of(who, without, weights.k(), weights.state().memory);
    kept = 0;
  }
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
    pack.arithmetic = options.arithmetic;
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

void Linear::forward(ConstAnyMatrix x, AnyMatrix y) const {
  forward(default_context(), x, y);
}

void Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  forward_as("Linear::forward", context, x, y);
}

void Linear::forward_as(const char* who, Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  if (adapter_ != nullptr) {
    forward_adapted(who, context, x, y);
    return;
  }
  at_border(who, [&] {
    const ContextUse use(who, context);
    check_float(who, "x", x);
    check_float(who, "y", y);
    check_columns(who, x, in_features());
    check_output(who, y, x.rows, out_features());
    if (overlap(x, y)) fail(ErrorCode::invalid_argument, std::string(who) + ": y overlaps x");
    check_kernels(who, weights(), context);
    if (y.rows == 0 || y.cols == 0) return;
    check_reachable(who, "x", x, context);
    check_reachable(who, "y", y, context);
    const Activations batch = state_->prepare(who, context, context.workspace(), x);
    multiply(context, batch, batch.are_codes() ? state_->rules.get() : nullptr, state_->weights, y);
  });
}

Status Linear::try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept {
  try {
    forward(context, x, y);
    return {};
  } catch (const Error& error) {
    return {error.code()};
  } catch (const std::bad_alloc&) {  // no memory left for the message
    return {ErrorCode::out_of_memory};
  } catch (...) {  // an Executor of the caller's
    return {ErrorCode::foreign_exception};
  }
}

void Linear::quantize_activations(Context& context, ConstAnyMatrix x,
                                  QuantizedActivations& into) const {
  constexpr const char* kWho = "Linear::quantize_activations";
  at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    check_float(kWho, "x", x);
    check_columns(kWho, x, in_features());
    check_reachable(kWho, "x", x, context);
    if (into.state_ == nullptr) into.state_ = std::make_unique<QuantizedActivations::State>();
    QuantizedActivations::State& to = *into.state_;
    prepare_memory(to.memory, context);
    to.batch = {};
    to.rules = nullptr;
    if (state_ == nullptr) return;
    to.batch = state_->prepare(kWho, context, to.memory, x);
    if (to.batch.are_codes()) to.rules = state_->rules;
  });
}

void Linear::forward(Context& context, const QuantizedActivations& x, AnyMatrix y) const {
  constexpr const char* kWho = "Linear::forward";
  at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    if (adapter_ != nullptr) {
      fail(ErrorCode::invalid_argument, std::string(kWho) +
                                            ": the layer has an adapter, which reads x itself, not "
                                            "quantized activations; call forward(x, y)");
    }
    if (x.cols() != in_features()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": the activations have " +
                                          std::to_string(x.cols()) + " columns, the layer takes " +
                                          std::to_string(in_features()) + " inputs");
    }
    check_output(kWho, y, x.rows(), out_features());
    check_kernels(kWho, weights(), context);
    if (y.rows == 0 || y.cols == 0) return;
    check_reachable(kWho, "y", y, context);
    const GemmKernels& kernels = state_->kernels(context.kernels());
    const QuantizedActivations::State& from = *x.state_;
    const bool integers = kernels.gather_columns != nullptr;
    if (!from.batch.kernels.same_activations(kernels) || integers != (from.rules != nullptr)) {
      fail(ErrorCode::unsupported, std::string(kWho) +
                                       ": the activations were made for other kernels or for a "
                                       "format of another kind than " +
                                       std::string(to_string(format())));
    }
    if (integers && from.rules != state_->rules && !from.rules->same_as(*state_->rules)) {
      fail(ErrorCode::invalid_argument,
           std::string(kWho) + ": the activations were quantized with other options (threshold " +
               std::to_string(from.rules->options.threshold) + ", " +
               std::to_string(from.rules->kept()) + " kept columns) than the layer's (threshold " +
               std::to_string(state_->rules->options.threshold) + ", " +
               std::to_string(state_->rules->kept()) + " kept columns)");
    }
    multiply(context, from.batch, integers ? state_->rules.get() : nullptr, state_->weights, y);
  });
}

bool Linear::shares_activations_with(const Linear& other) const noexcept {
  if (state_ == nullptr || other.state_ == nullptr) return false;
  if (adapter_ != nullptr || other.adapter_ != nullptr) return false;
  const PackedWeights& mine = weights();
  const PackedWeights& theirs = other.weights();
  if (mine.k() != theirs.k() || mine.n() == 0 || theirs.n() == 0) return false;
  const Arithmetic arithmetic = options().arithmetic;
  const bool integers = multiplied_as_integers(mine, arithmetic);
  if (integers != multiplied_as_integers(theirs, other.options().arithmetic)) return false;
  if (!integers) {
    return mine.format() == theirs.format() && mine.layout() == theirs.layout();
  }
  return mine.state().kernels.same_activations(theirs.state().kernels) &&
         state_->rules->same_as(*other.state_->rules);
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
  return w.packed.bytes() + w.bias.bytes() + w.kept.bytes() + state_->rules->keep_mask.bytes() +
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
