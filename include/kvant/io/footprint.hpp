#pragma once

/// @file
/// How many bytes a model takes, by parameters and buffers, as it is stored and as it would be
/// after a cast or a quantization. Only names, dtypes and shapes are looked at.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

/// What a tensor is in its model.
enum class TensorRole : std::uint8_t {
  parameter,      ///< trained, and no weight that can be quantized
  linear_weight,  ///< [outputs, inputs] of a linear layer, floating or codes
  scale,          ///< scales, tables and formats that belong to codes
  buffer,         ///< constants: position ids, masks, running statistics
};

/// A parameter or buffer of a model: what counting takes.
struct ModelTensor {
  std::string name;
  DType dtype = DType::float32;
  std::vector<std::uint64_t> shape;
  TensorRole role = TensorRole::parameter;
  bool transposed = false;  ///< a linear weight that is stored as [inputs, outputs]
};

/// Bytes of a model by kind of tensor.
struct Footprint {
  std::uint64_t parameters = 0;  ///< bytes, codes included
  std::uint64_t scales = 0;
  std::uint64_t buffers = 0;
  [[nodiscard]] std::uint64_t total() const noexcept { return parameters + scales + buffers; }
};

/// What happens to a model. Integer tensors always stay as they are.
struct FootprintRule {
  /// Floating-point tensors (but for scales, and for weights that are quantized) become this.
  std::optional<DType> cast = std::nullopt;
  /// Floating-point linear weights become this, stored as quantize_checkpoint stores it.
  std::optional<WeightFormat> weights = std::nullopt;
  /// For forms of others: floating-point linear weights become codes of that many bits; 0: they do
  /// not.
  int code_bits = 0;
  std::uint64_t scale_bytes_per_output = 0;  ///< for each output of a quantized layer
  std::uint64_t scale_bytes_per_layer = 0;
  std::uint64_t buffer_bytes_per_layer = 0;
};

/// Every tensor in the type that it is stored in.
inline constexpr FootprintRule kFootprintAsStored{};
/// bitsandbytes 8-bit files.
inline constexpr FootprintRule kFootprintBitsandbytesInt8{.weights = WeightFormat::int8_row};
/// optimum-quanto, int8 weights, frozen: a float32 scale for each output, and the float32 buffers
/// input_scale and output_scale of each layer, which are there even if activations stay float.
inline constexpr FootprintRule kFootprintQuantoInt8{
    .code_bits = 8, .scale_bytes_per_output = 4, .buffer_bytes_per_layer = 8};

/// @throws Error unsupported: rule.weights is not a format that checkpoints are written in;
///         FormatError overflow, misaligned: a shape whose bytes do not fit 64 bits
[[nodiscard]] KVANT_API Footprint footprint(std::span<const ModelTensor> tensors,
                                            const FootprintRule& rule = kFootprintAsStored);

/// All tensors of a checkpoint with their roles.
[[nodiscard]] KVANT_API std::vector<ModelTensor> model_tensors(const Checkpoint& checkpoint,
                                                               const ModelHints& hints = {});

}  // namespace kvant::io
