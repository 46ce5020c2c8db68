#pragma once

/// @file
/// Activations on their way into a product: the first of the two stages of every layer's forward
/// pass, as a value (QuantizedActivations). One quantization serves every layer that takes the same
/// input:
///
///     kvant::QuantizedActivations a;
///     q_proj.quantize_activations(context, x, a);   // LLM.int8()'s first half
///     q_proj.forward(context, a, q);                            // the second half, three times
///     k_proj.forward(context, a, k);
///     v_proj.forward(context, a, v);

#include <cstdint>
#include <memory>
#include <span>

#include "kvant/activation_options.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// A batch of activations [M, K], ready to be multiplied: codes in the order that the context's
/// kernels read, the absmax of each row, outlier features apart. It owns its memory and keeps it
/// when it is filled again. Move-only; a moved-from one is empty ([0, 0]).
class KVANT_API QuantizedActivations {
 public:
  QuantizedActivations() noexcept;
  ~QuantizedActivations();
  QuantizedActivations(QuantizedActivations&&) noexcept;
  QuantizedActivations& operator=(QuantizedActivations&&) noexcept;

  [[nodiscard]] std::int64_t rows() const noexcept;
  [[nodiscard]] std::int64_t cols() const noexcept;
  /// absmax of each row over what is neither an outlier nor a kept column; NaN for a row with a
  /// NaN. Empty for float formats.
  [[nodiscard]] std::span<const float> absmax() const noexcept;
  /// The outlier features that this batch was found to have, ascending (kept ones are not listed).
  [[nodiscard]] std::span<const std::int64_t> outlier_columns() const noexcept;
  /// Bytes held.
  [[nodiscard]] std::size_t memory_footprint() const noexcept;

 private:
  struct State;
  friend class Linear;
  friend class RowParallelLinear;
  friend KVANT_API void quantize_activations(Context&, ConstAnyMatrix, const ActivationOptions&,
                                             QuantizedActivations&);
  std::unique_ptr<State> state_;
};

/// The first stage by itself, for layers of integer weights: x [M, K] in fp32, fp16 or bf16.
/// `into` is filled again, its memory kept. Layers accept it whose own options are the same.
/// @throws Error invalid_argument, unsupported (dtype), out_of_range, not_finite, out_of_memory
KVANT_API void quantize_activations(Context& context, ConstAnyMatrix x,
                                    const ActivationOptions& options, QuantizedActivations& into);
/// The same into a fresh object.
[[nodiscard]] KVANT_API QuantizedActivations
quantize_activations(Context& context, ConstAnyMatrix x, const ActivationOptions& options = {});

}  // namespace kvant
