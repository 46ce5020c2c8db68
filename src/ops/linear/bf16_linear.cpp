// Bf16Linear: Linear with bfloat16 weights.

#include "kvant/linear.hpp"

namespace kvant {

Bf16Linear Bf16Linear::pack(ConstAnyMatrix weights, ConstAnyMatrix bias) {
  return pack(default_context(), weights, bias);
}
Bf16Linear Bf16Linear::pack(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias) {
  return Bf16Linear(
      Linear::quantize_as("Bf16Linear::pack", context, weights, WeightFormat::bfloat16, bias, {}));
}

void Bf16Linear::forward(ConstAnyMatrix x, AnyMatrix y) const {
  forward(default_context(), x, y);
}
void Bf16Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  linear_.forward_as("Bf16Linear::forward", context, x, y);
}

}  // namespace kvant
