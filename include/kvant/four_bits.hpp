#pragma once

/// @file
/// Layers with weights of 4 bits by their names: Nf4Linear and Fp4Linear as bitsandbytes'
/// Linear4bit, Int4Linear as GPTQ's and AWQ's layers.
///
///     auto layer = kvant::Nf4Linear::quantize(weights, bias);
///     layer.forward(x, y);                                     // int8 products, about 4.5 bits a
///     weight
///
/// They are Linear with a format (weight_format.hpp) and nothing else: the general class takes the
/// same weights, packs and maps them, and shares quantized activations between layers.

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/packed_weights.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// How a layer of 4-bit weights is made and multiplied. Of the arguments of bitsandbytes'
/// Linear4bit, quant_type is the layer's name, blocksize is block, compress_statistics is
/// nested_absmax; compute_dtype has no counterpart but arithmetic (products are exact integers or
/// sums in fp32; x and y say their own types), and quant_storage is a matter of files.
struct Linear4bitOptions {
  /// Weights that share a scale, a multiple of 32; 0: 64 (bitsandbytes' default).
  std::int64_t block = 0;
  /// int4: a zero point for each scale (affine); false: symmetric.
  bool zero_points = true;
  /// nf4, fp4: each absmax as double quantization leaves it, as in bitsandbytes' checkpoints.
  bool nested_absmax = false;
  /// exact: real weights and activations, as bitsandbytes and AutoGPTQ multiply; kvant: int8
  /// products of activations quantized per row, outliers apart: several times faster where rows are
  /// few. int15: activations of 15 bits, for int4 nearly exact.
  Arithmetic arithmetic = Arithmetic::kvant;
  float threshold = 6.0f;  ///< of outliers, as ActivationOptions
  Outliers outliers = Outliers::per_call;
  /// Outlier features known beforehand, as ActivationOptions; not with from_codes, which has no
  /// weights for them.
  std::span<const std::int64_t> keep_columns = {};
};

/// A linear layer whose weights have 4 bits. Any number of threads may use one, each with a context
/// of its own.
template <WeightFormat kFormat>
class FourBitLinear {
  static_assert(describe(kFormat).bits == 4);

 public:
  /// An empty layer of 0 inputs and 0 outputs.
  FourBitLinear() = default;

  /// Quantizes weights [out, in] (fp32, fp16 or bf16).
  /// @param bias  [1, out] in fp32, fp16 or bf16, or empty (rows = 0) for none.
  /// @throws Error shape_mismatch, invalid_argument, out_of_range (in > 131071), not_finite (nested
  ///         absmax of weights that are not), out_of_memory
  static FourBitLinear quantize(ConstAnyMatrix weights, ConstAnyMatrix bias = {},
                                const Linear4bitOptions& options = {}) {
    return quantize(default_context(), weights, bias, options);
  }
  static FourBitLinear quantize(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias = {},
                                const Linear4bitOptions& options = {}) {
    PackOptions packing{.block = options.block, .nested_absmax = options.nested_absmax};
    if (describe(kFormat).zero_points) packing.zero_points = options.zero_points;
    return FourBitLinear(
        Linear::quantize(context, weights, kFormat, bias, activations(options), packing));
  }

  /// From codes, scales and zero points of a checkpoint (weights.format is not looked at).
  /// @throws as PackedWeights::from_codes
  static FourBitLinear from_codes(Context& context, CodedWeights weights, ConstAnyMatrix bias = {},
                                  const Linear4bitOptions& options = {}) {
    weights.format = kFormat;
    return FourBitLinear(
        Linear::from(PackedWeights::from_codes(context, weights), bias, activations(options)));
  }

  /// As Linear::forward.
  void forward(ConstAnyMatrix x, AnyMatrix y) const { linear_.forward(x, y); }
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
    linear_.forward(context, x, y);
  }

  [[nodiscard]] std::int64_t in_features() const noexcept { return linear_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return linear_.out_features(); }
  /// The real weights, [out, in] into w (fp32, fp16 or bf16).
  void dequantize(AnyMatrix w) const { linear_.dequantize(w); }
  /// Bytes this layer holds, padding included.
  [[nodiscard]] std::size_t memory_footprint() const noexcept { return linear_.memory_footprint(); }
  /// Bytes of codes, scales and bias as a checkpoint stores them.
  [[nodiscard]] std::size_t weight_bytes() const noexcept { return linear_.weight_bytes(); }

  /// The layer under its general name.
  [[nodiscard]] const Linear& linear() const noexcept { return linear_; }
  operator const Linear&() const noexcept { return linear_; }  // NOLINT: implicit on purpose

 private:
  explicit FourBitLinear(Linear linear) : linear_(std::move(linear)) {}
  static ActivationOptions activations(const Linear4bitOptions& options) noexcept {
    return {.threshold = options.threshold,
            .outliers = options.outliers,
            .arithmetic = options.arithmetic,
            .keep_columns = options.keep_columns};
  }
  Linear linear_;
};

/// QLoRA's format: 16 values that split a normal distribution evenly.
using Nf4Linear = FourBitLinear<WeightFormat::nf4>;
/// bitsandbytes' floats of 4 bits.
using Fp4Linear = FourBitLinear<WeightFormat::fp4>;
/// Groups of integers of 4 bits, with zero points or symmetric: GPTQ's and AWQ's.
using Int4Linear = FourBitLinear<WeightFormat::int4_group>;

}  // namespace kvant
