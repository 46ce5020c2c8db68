#pragma once

/// @file
/// Int8Linear: y = x W^T + b with int8 weights, by LLM.int8().

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// An immutable int8 layer. Weights are [out, in] row-major as nn.Linear stores them; copies share
/// the packed weights. Any number of threads may call forward at once, each with its own Context.
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

  /// y [M, out] = x [M, in] W^T + b; x and y each fp32, fp16 or bf16, any M including 0. Leading
  /// dimensions of higher-rank tensors are flattened into M. y must not overlap x.
  /// @throws Error shape_mismatch, invalid_argument, unsupported (dtype), out_of_memory
  void forward(ConstAnyMatrix x, AnyMatrix y) const;
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;
  /// The same without exceptions.
  Status try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept;

  [[nodiscard]] std::int64_t in_features() const noexcept;
  [[nodiscard]] std::int64_t out_features() const noexcept;
  [[nodiscard]] bool has_bias() const noexcept;
  [[nodiscard]] float threshold() const noexcept;
  [[nodiscard]] Outliers outliers() const noexcept;
  [[nodiscard]] Arithmetic arithmetic() const noexcept;

  /// Weight codes [out, in], unpacked into a fresh row-major array.
  [[nodiscard]] std::vector<std::int8_t> codes() const;
  /// absmax of each output row (bitsandbytes' SCB): weight = code * absmax / 127.
  [[nodiscard]] std::span<const float> absmax() const noexcept;
  /// Columns whose weights are kept in half precision.
  [[nodiscard]] std::span<const std::int64_t> keep_columns() const noexcept;
  /// Their weights [out, keep_columns], as float.
  [[nodiscard]] std::vector<float> kept_weights() const;
  /// The weights this layer multiplies by, [out, in] into w (fp32, fp16 or bf16): codes * absmax /
  /// 127, and the kept columns as kept.
  void dequantize(AnyMatrix w) const;

  /// Bytes this layer holds: packed codes with padding, scales, bias, kept columns.
  [[nodiscard]] std::size_t memory_footprint() const noexcept;
  /// Bytes of codes, scales and bias without padding, as a checkpoint would store them.
  [[nodiscard]] std::size_t weight_bytes() const noexcept;

 private:
  struct State;
  explicit Int8Linear(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
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

  /// y [M, out] = bf16(x [M, in]) W^T + b. @throws as Int8Linear::forward
  void forward(ConstAnyMatrix x, AnyMatrix y) const;
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;

  [[nodiscard]] std::int64_t in_features() const noexcept;
  [[nodiscard]] std::int64_t out_features() const noexcept;
  /// Bytes this layer holds, padding included.
  [[nodiscard]] std::size_t memory_footprint() const noexcept;

 private:
  struct State;
  explicit Bf16Linear(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace kvant
