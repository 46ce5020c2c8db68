#pragma once

// The second stage of every forward pass: activations times packed weights, with the outlier
// features and the bias in the epilogue.

#include "kvant/aligned_array.hpp"
#include "kvant/core/activation_checks.hpp"
#include "kvant/matrix.hpp"
#include "kvant/packed_weights.hpp"
#include "kvant/ranks.hpp"
#include "ops/linear/activations.hpp"

namespace kvant::detail {

/// What a layer multiplies by.
struct LayerWeights {
  PackedWeights packed;
  AlignedArray<float> bias;  ///< [n padded], or empty
  DType bias_dtype = DType::float32;
  AlignedArray<std::uint16_t> kept;   ///< [n / nr][kept][nr] of the kept columns, 16 bits each
  DType kept_dtype = DType::float16;  ///< bfloat16 where a weight exceeds fp16's range

  // Zero points of static activations: less their products with the codes of an output
  // (int8_row: [n padded], subtracted from sums), or with its values (all other formats: the bias
  // and this).
  AlignedArray<std::int32_t> offsets;
  AlignedArray<float> shifted_bias;

  // The same where the kernels are; null where there is none.
  const float* bias_at = nullptr;
  const std::uint16_t* kept_at = nullptr;
  std::shared_ptr<std::byte> on_device;  ///< their memory; null on the host

  /// Bias and kept weights are complete: puts them where the packed weights are.
  /// @throws Error out_of_memory, device_failed
  void place();
};

/// Zero points of static activations, into the layer's offsets or bias (complete but for them), and
/// what products with these weights ask of the codes.
/// @throws Error unsupported, out_of_range, out_of_memory
void fold_zero_points(const char* who, LayerWeights& layer, const QuantParams& params);
/// Weights times the static scales of their features, relative to the largest: a float copy.
[[nodiscard]] Matrix<float> fold_scales(const ConstAnyMatrix& weights, const QuantParams& params);
/// There is something to fold.
[[nodiscard]] bool folds_scales(const ActivationRules& rules, std::int64_t k);

/// Whether an arithmetic multiplies integer weights of a format as integers, and not as the real
/// values they stand for. (bitsandbytes does so with its 8-bit weights alone.)
constexpr bool multiplies_integers(WeightFormat format, Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::kvant || arithmetic == Arithmetic::int15 ||
         (arithmetic == Arithmetic::bitsandbytes && format == WeightFormat::int8_row);
}

/// Whether weights are widened to float32, panel by panel, in products of many rows: the set has no
/// kernels for them (or for few rows alone: GemmKernels::most_rows), the arithmetic asks for real
/// values, or blocks of weights lie across rows where no kernel follows.
[[nodiscard]] bool is_widened(const KernelTable& table, const PackedWeights& weights,
                              Arithmetic arithmetic) noexcept;
/// The kernels that multiply these weights: their format's own, or those of float32.
const GemmKernels& multiplying_kernels(const KernelTable& table, const PackedWeights& weights,
                                       Arithmetic arithmetic) noexcept;

/// A product without outliers and bias, all scales 1.
[[nodiscard]] GemmArgs product_of(const Activations& a, const PackedWeights& w, const AnyMatrix& y,
                                  Share blocks) noexcept;

/// Integer weights times activations of two codes (Arithmetic::int15), whole batches.
/// @throws Error out_of_memory
void multiply_int15(Context& context, const Activations& a, const LayerWeights& weights,
                    const AnyMatrix& y);

/// y = activations * weights^T + outliers + bias. rules: those of the activations, null for float
/// formats. Everything is validated. Scratch: block 2 of the context's workspace.
/// @param blocks  of the batch's rows (RowBlocks), of whose rows y is written; {0, 0}: all, which is
///                the only choice for activations of two codes
/// @throws Error out_of_memory
void multiply(Context& context, const Activations& a, const ActivationRules* rules,
              const LayerWeights& weights, const AnyMatrix& y, Share blocks = {});

}  // namespace kvant::detail
