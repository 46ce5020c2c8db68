#pragma once

/// @file
/// Activations on their way into a product: how they are quantized (ActivationOptions), and the
/// first of the two stages of every layer's forward pass, as a value (QuantizedActivations). One
/// quantization serves every layer that takes the same input:
///
///     kvant::QuantizedActivations a;
///     q_proj.quantize_activations(context, x, a);   // LLM.int8()'s first half
///     q_proj.forward(context, a, q);                            // the second half, three times
///     k_proj.forward(context, a, k);
///     v_proj.forward(context, a, v);

#include <cstdint>
#include <memory>
#include <span>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// How outlier features are chosen.
enum class Outliers : std::uint8_t {
  per_call,    ///< the paper: a column with an outlier in any row of the call is one for all rows
  per_row,     ///< batch-invariant: a row's result does not depend on its neighbours
  calibrated,  ///< only the listed columns; nothing is searched at run time
};

/// Which arithmetic the floating-point steps follow.
enum class Arithmetic : std::uint8_t {
  kvant,         ///< int8 products, one rounding to the output type, exact 1/127^2
  bitsandbytes,  ///< bitsandbytes' CPU backend: codes and scales bit for bit, its constants;
                 ///< formats other than its 8-bit weights: as `exact`
  exact,         ///< weights as the real values they stand for, activations in fp32, sums in fp32:
                 ///< what bitsandbytes' 4-bit layers and GPTQ's compute. Slower
};

/// The absmax that activations are scaled by.
enum class ActivationScale : std::uint8_t {
  per_row,     ///< each row's own (vector-wise)
  per_tensor,  ///< the largest of the call, for all rows
};

/// How a layer with integer weights quantizes its activations.
struct ActivationOptions {
  /// |x| >= threshold makes an outlier; 0: no decomposition. NaN or negative is an error.
  float threshold = 6.0f;
  Outliers outliers = Outliers::per_call;
  Arithmetic arithmetic = Arithmetic::kvant;
  /// Columns (input features) known to be outliers, ascending, without duplicates. Their weights
  /// are kept in fp16 (bf16 where one exceeds 65504) beside the codes; they always take the float
  /// path. Further outliers are still found at run time unless outliers == calibrated.
  /// Not with Arithmetic::bitsandbytes, which has only the int8 codes.
  std::span<const std::int64_t> keep_columns = {};
  ActivationScale activation_scale = ActivationScale::per_row;
  /// Report NaN and Inf in weights and activations as Error not_finite. Otherwise they are defined
  /// results: a row of x with a NaN gives NaN, and so does an output with a NaN or an infinity
  /// among its int8 weights; infinities in x propagate as in floating point.
  bool check_finite = false;
};

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
