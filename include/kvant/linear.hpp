#pragma once

/// @file
/// Linear: y = x W^T + b with weights in any format, and the two by the names that users ask for:
/// Int8Linear (LLM.int8()) and Bf16Linear.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant {

class Adapter;

/// An immutable layer: packed weights, an optional bias, and how its activations are quantized.
/// Weights are [out, in] row-major as nn.Linear stores them; copies share them. Any number of
/// threads may call forward at once, each with its own Context.
///
///     auto layer = kvant::Linear::quantize(weights, kvant::WeightFormat::int8_row, bias);
///     layer.forward(x, y);
///
/// forward is two stages, which callers may run by themselves: quantize_activations, then forward
/// with its result. Integer formats multiply by LLM.int8(), or with static scales and zero points
/// (ActivationOptions::static_params). Float formats, and formats that the kernel set does not
/// multiply (their weights are widened to float32: in registers for few rows, else panel by panel),
/// sum in fp32; of the options they follow static_params and activation_type alone, and round x to
/// what its codes stand for.
class KVANT_API Linear {
 public:
  /// An empty layer of 0 inputs and 0 outputs.
  Linear() = default;

  /// Quantizes weights [out, in] (fp32, fp16 or bf16) into a format and packs them.
  /// @param bias     [1, out] in fp32, fp16 or bf16, or empty (rows = 0) for none.
  /// @param packing  block size and zero points, in formats that have them (the arithmetic is that
  ///                 of the options)
  /// @throws Error shape_mismatch, invalid_argument, unsupported (a format that is not packed),
  ///         out_of_range (in > 131071 in an integer format), not_finite, out_of_memory
  static Linear quantize(ConstAnyMatrix weights, WeightFormat format, ConstAnyMatrix bias = {},
                         const ActivationOptions& options = {}, const PackOptions& packing = {});
  static Linear quantize(Context& context, ConstAnyMatrix weights, WeightFormat format,
                         ConstAnyMatrix bias = {}, const ActivationOptions& options = {},
                         const PackOptions& packing = {});

  /// From weights that are packed already, mapped from a file for instance.
  /// @param kept_weights  [out, keep_columns.size()] where options.keep_columns are given
  /// @throws Error shape_mismatch, invalid_argument, unsupported, out_of_memory
  static Linear from(PackedWeights weights, ConstAnyMatrix bias = {},
                     const ActivationOptions& options = {}, ConstAnyMatrix kept_weights = {});

  /// From a linear quantizer's result (PackedWeights::from says what is taken).
  static Linear from(Context& context, const QuantizedMatrix& weights, ConstAnyMatrix bias = {},
                     const ActivationOptions& options = {});

  /// The same layer with a low-rank correction (LoRA): forward adds scale * (x A^T) B^T, in fp32,
  /// before y is rounded to its dtype. The weights are shared with this layer; an adapter that it
  /// had is replaced. Forward takes memory for the correction then.
  /// @param a [rank, in], @param b [out, rank], each fp32, fp16 or bf16
  /// @throws Error as Adapter; shape_mismatch: other inputs or outputs than the layer's
  [[nodiscard]] Linear with_adapter(ConstAnyMatrix a, ConstAnyMatrix b, float scale) const;
  [[nodiscard]] Linear with_adapter(Context& context, ConstAnyMatrix a, ConstAnyMatrix b,
                                    float scale) const;
  /// Null: there is none.
  [[nodiscard]] const Adapter* adapter() const noexcept { return adapter_.get(); }

  /// y [M, out] = x [M, in] W^T + b; x and y each fp32, fp16 or bf16, any M including 0. Leading
  /// dimensions of higher-rank tensors are flattened into M. y must not overlap x.
  /// @throws Error shape_mismatch, invalid_argument, unsupported (dtype, or the layer was packed
  /// for
  ///         other kernels), not_finite (only with check_finite), out_of_memory
  void forward(ConstAnyMatrix x, AnyMatrix y) const;
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;
  /// The same without exceptions.
  Status try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept;

  /// The first stage: x quantized (or converted) as this layer wants it, into memory that is kept.
  /// Other layers take it too if they have the same inputs, format of activations and options.
  void quantize_activations(Context& context, ConstAnyMatrix x, QuantizedActivations& into) const;
  /// The second stage. y may overlap what x was.
  /// @throws Error shape_mismatch, invalid_argument (made for layers with other options; a layer
  ///         with an adapter, which reads x itself), unsupported (made for other kernels)
  void forward(Context& context, const QuantizedActivations& x, AnyMatrix y) const;
  /// Takes what `other` quantizes. (A layer with an adapter takes nothing.)
  [[nodiscard]] bool shares_activations_with(const Linear& other) const noexcept;

  /// forward takes this context: the weights are packed for its kernels and, on a device, it has
  /// kernels for their products. (What only the host multiplies, by widening weights to float32, is
  /// weights of some formats, and codes in Arithmetic::exact.)
  [[nodiscard]] bool runs_on(const Context& context) const noexcept;

  [[nodiscard]] std::int64_t in_features() const noexcept;
  [[nodiscard]] std::int64_t out_features() const noexcept;
  [[nodiscard]] WeightFormat format() const noexcept;
  [[nodiscard]] const PackedWeights& weights() const noexcept;
  [[nodiscard]] bool has_bias() const noexcept;
  /// keep_columns points into the layer.
  [[nodiscard]] const ActivationOptions& options() const noexcept;
  /// The weights of the kept columns [out, keep_columns], as float.
  [[nodiscard]] std::vector<float> kept_weights() const;
  /// The weights this layer multiplies by, [out, in] into w (fp32, fp16 or bf16); kept columns as
  /// kept, and without an adapter.
  void dequantize(AnyMatrix w) const;

  /// Bytes this layer holds: packed weights with padding, scales, bias, kept columns.
  [[nodiscard]] std::size_t memory_footprint() const noexcept;
  /// Bytes of codes, scales and bias without padding, as a checkpoint would store them.
  [[nodiscard]] std::size_t weight_bytes() const noexcept;

 private:
  struct State;
  explicit Linear(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  void forward_as(const char* who, Context& context, ConstAnyMatrix x, AnyMatrix y) const;
  void forward_adapted(const char* who, Context& context, ConstAnyMatrix x, AnyMatrix y) const;
  static Linear assemble(const char* who, PackedWeights weights, ConstAnyMatrix bias,
                         const ActivationOptions& options, ConstAnyMatrix kept_weights,
                         bool folded = false);
  static Linear quantize_as(const char* who, Context& context, ConstAnyMatrix weights,
                            WeightFormat format, ConstAnyMatrix bias,
                            const ActivationOptions& options, const PackOptions& packing = {});
  void forward_blocks(Context& context, const QuantizedActivations& x, AnyMatrix y,
                      std::int64_t begin, std::int64_t end) const;
  friend class Int8Linear;
  friend class Bf16Linear;
  friend class RowParallelLinear;
  std::shared_ptr<const State> state_;
  std::shared_ptr<const Adapter> adapter_;
};

/// A layer of int8 weights by LLM.int8(), the common case by its name.
class KVANT_API Int8Linear {
 public:
  /// An empty layer of 0 inputs and 0 outputs.
  Int8Linear() = default;

  /// Quantizes weights [out, in] (fp32, fp16 or bf16): codes = rne(w * 127 / absmax(row)).
  /// @param bias  [1, out] in fp32, fp16 or bf16, or empty (rows = 0) for none.
  /// @throws Error shape_mismatch, invalid_argument, out_of_range (in > 131071), out_of_memory
  static Int8Linear quantize(ConstAnyMatrix weights, ConstAnyMatrix bias = {},
                             const Int8Options& options = {});
  static Int8Linear quantize(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias = {},
                             const Int8Options& options = {});

  /// From codes [out, in] and the absmax of each output row ("SCB" of bitsandbytes); the weights
  /// are codes * absmax / 127. keep_columns needs `kept_weights` [out, keep_columns.size()].
  static Int8Linear from_codes(MatrixView<const std::int8_t> codes, std::span<const float> absmax,
                               ConstAnyMatrix bias = {}, const Int8Options& options = {},
                               ConstAnyMatrix kept_weights = {});
  static Int8Linear from_codes(Context& context, MatrixView<const std::int8_t> codes,
                               std::span<const float> absmax, ConstAnyMatrix bias = {},
                               const Int8Options& options = {}, ConstAnyMatrix kept_weights = {});

  /// From a linear quantizer's result: int8, int4 or int2 codes with a scale per tensor, per row or
  /// per block of rows, without a change to any value. Groups within a row: Linear::from.
  /// @throws Error unsupported: a granularity, zero points or a shift that int8 does not hold; the
  ///         message says which
  static Int8Linear from(const QuantizedMatrix& weights, ConstAnyMatrix bias = {},
                         const Int8Options& options = {});
  static Int8Linear from(Context& context, const QuantizedMatrix& weights, ConstAnyMatrix bias = {},
                         const Int8Options& options = {});

  /// As Linear::forward.
  void forward(ConstAnyMatrix x, AnyMatrix y) const;
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;
  /// The same without exceptions.
  Status try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept;

  [[nodiscard]] std::int64_t in_features() const noexcept { return linear_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return linear_.out_features(); }
  [[nodiscard]] bool has_bias() const noexcept { return linear_.has_bias(); }
  [[nodiscard]] float threshold() const noexcept { return linear_.options().threshold; }
  [[nodiscard]] Outliers outliers() const noexcept { return linear_.options().outliers; }
  [[nodiscard]] Arithmetic arithmetic() const noexcept { return linear_.options().arithmetic; }

  /// Weight codes [out, in], unpacked into a fresh row-major array.
  [[nodiscard]] std::vector<std::int8_t> codes() const;
  /// absmax of each output row (bitsandbytes' SCB): weight = code * absmax / 127.
  [[nodiscard]] std::span<const float> absmax() const noexcept {
    return linear_.weights().absmax();
  }
  /// Columns whose weights are kept in half precision.
  [[nodiscard]] std::span<const std::int64_t> keep_columns() const noexcept {
    return linear_.options().keep_columns;
  }
  /// Their weights [out, keep_columns], as float.
  [[nodiscard]] std::vector<float> kept_weights() const { return linear_.kept_weights(); }
  /// The weights this layer multiplies by, [out, in] into w (fp32, fp16 or bf16): codes times scale
  /// and the kept columns as kept; in bitsandbytes' arithmetic codes * absmax * float(1 / 127), as
  /// that library rounds it.
  void dequantize(AnyMatrix w) const;

  [[nodiscard]] std::size_t memory_footprint() const noexcept { return linear_.memory_footprint(); }
  [[nodiscard]] std::size_t weight_bytes() const noexcept { return linear_.weight_bytes(); }

  /// The layer under its general name.
  [[nodiscard]] const Linear& linear() const noexcept { return linear_; }
  operator const Linear&() const noexcept { return linear_; }  // NOLINT: implicit on purpose

 private:
  explicit Int8Linear(Linear linear) : linear_(std::move(linear)) {}
  Linear linear_;
};

/// A layer kept in half precision: bfloat16 weights in the kernels' layout, activations rounded to
/// bfloat16, sums in float32. For the layers that a model does not quantize, and what int8 is
/// measured against: on a processor with AVX-512 BF16 it runs on that.
class KVANT_API Bf16Linear {
 public:
  Bf16Linear() = default;

  /// Packs weights [out, in] (fp32, fp16 or bf16, rounded to bf16) and an optional bias [1, out].
  /// @throws Error shape_mismatch, invalid_argument, out_of_memory
  static Bf16Linear pack(ConstAnyMatrix weights, ConstAnyMatrix bias = {});
  static Bf16Linear pack(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias = {});

  /// y [M, out] = bf16(x [M, in]) W^T + b. @throws as Linear::forward
  void forward(ConstAnyMatrix x, AnyMatrix y) const;
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;

  [[nodiscard]] std::int64_t in_features() const noexcept { return linear_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return linear_.out_features(); }
  /// Bytes this layer holds, padding included.
  [[nodiscard]] std::size_t memory_footprint() const noexcept { return linear_.memory_footprint(); }

  /// The layer under its general name.
  [[nodiscard]] const Linear& linear() const noexcept { return linear_; }
  operator const Linear&() const noexcept { return linear_; }  // NOLINT: implicit on purpose

 private:
  explicit Bf16Linear(Linear linear) : linear_(std::move(linear)) {}
  Linear linear_;
};

}  // namespace kvant
