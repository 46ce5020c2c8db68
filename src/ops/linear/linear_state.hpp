#pragma once

// What a Linear holds.

#include <cstdint>
#include <memory>

#include "kvant/linear.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"

namespace kvant {

struct Linear::State {
  detail::LayerWeights weights;
  std::shared_ptr<const detail::ActivationRules> rules;
  bool folded = false;  ///< static scales of groups are in the weights

  [[nodiscard]] const GemmKernels& kernels(const KernelTable& table) const noexcept {
    return detail::multiplying_kernels(table, weights.packed, rules->options.arithmetic);
  }
  /// The first stage: x quantized by the rules, or converted.
  [[nodiscard]] detail::Activations prepare(const char* who, Context& context, Workspace& memory,
                                            const ConstAnyMatrix& x) const {
    const GemmKernels& own = kernels(context.kernels());
    if (own.gather_columns != nullptr) {
      return detail::quantize_activations(who, context, memory, own, *rules, x);
    }
    if (!rules->rounds_floats()) return detail::convert_activations(context, memory, own, x);
    return detail::convert_activations(context, memory, own,
                                       detail::round_activations(who, context, memory, *rules, x));
  }
  /// What a batch must have been made by; null: by nothing but its conversion.
  [[nodiscard]] std::shared_ptr<const detail::ActivationRules> rules_of(bool codes) const noexcept {
    return codes || rules->rounds_floats() ? rules : nullptr;
  }
  [[nodiscard]] float kept_weight(std::int64_t n, std::int64_t j) const noexcept {
    const std::int64_t nr = weights.packed.layout().nr;
    const std::uint16_t bits =
        weights.kept[static_cast<std::size_t>((n / nr) * rules->kept() * nr + j * nr + n % nr)];
    return weights.kept_dtype == DType::bfloat16 ? detail::bfloat_bits_to_float(bits)
                                                 : detail::half_bits_to_float(bits);
  }
};

namespace detail {

/// By the kernels that the weights are packed for.
inline bool multiplied_as_integers(const PackedWeights& w, Arithmetic arithmetic) noexcept {
  return w.state().kernels.gather_columns != nullptr && !w.state().is_plain_nibbles() &&
         multiplies_integers(w.format(), arithmetic);
}

}  // namespace detail
}  // namespace kvant
