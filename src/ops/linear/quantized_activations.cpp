// QuantizedActivations: the first stage as a value.

#include "kvant/context.hpp"
#include "ops/linear/activations.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

QuantizedActivations::QuantizedActivations() noexcept = default;
QuantizedActivations::~QuantizedActivations() = default;
QuantizedActivations::QuantizedActivations(QuantizedActivations&&) noexcept = default;
QuantizedActivations& QuantizedActivations::operator=(QuantizedActivations&&) noexcept = default;

std::int64_t QuantizedActivations::rows() const noexcept {
  return state_ != nullptr ? state_->batch.m : 0;
}
std::int64_t QuantizedActivations::cols() const noexcept {
  return state_ != nullptr ? state_->batch.k : 0;
}
std::span<const float> QuantizedActivations::absmax() const noexcept {
  if (state_ == nullptr || state_->batch.absmax == nullptr) return {};
  return {state_->batch.absmax, static_cast<std::size_t>(state_->batch.m)};
}
std::span<const std::int64_t> QuantizedActivations::outlier_columns() const noexcept {
  if (state_ == nullptr) return {};
  return {state_->batch.columns, static_cast<std::size_t>(state_->batch.outliers)};
}
std::size_t QuantizedActivations::memory_footprint() const noexcept {
  return state_ != nullptr ? state_->memory.size() : 0;
}

void quantize_activations(Context& context, ConstAnyMatrix x, const ActivationOptions& options,
                          QuantizedActivations& into) {
  constexpr const char* kWho = "quantize_activations";
  detail::at_border(kWho, [&] {
    detail::check_float(kWho, "x", x);
    if (into.state_ == nullptr) into.state_ = std::make_unique<QuantizedActivations::State>();
    QuantizedActivations::State& state = *into.state_;
    state.rules = detail::ActivationRules::of(kWho, options, x.cols, context.memory());
    state.batch = {};
    detail::prepare_memory(state.memory, context);
    state.batch = detail::quantize_activations(kWho, context, state.memory,
                                               context.kernels().gemm_for(WeightFormat::int8_row),
                                               *state.rules, x);
  });
}

QuantizedActivations quantize_activations(Context& context, ConstAnyMatrix x,
                                          const ActivationOptions& options) {
  QuantizedActivations activations;
  quantize_activations(context, x, options, activations);
  return activations;
}

}  // namespace kvant
