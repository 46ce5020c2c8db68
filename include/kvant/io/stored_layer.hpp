#pragma once

/// @file
/// The linear layers of a checkpoint and the form in which each is stored: floating point, the
/// 8-bit and 4-bit forms of bitsandbytes, kvant's groups of int8, GPTQ and AWQ, compressed-tensors,
/// and fp8 in blocks.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

/// A linear layer of a checkpoint: name, shape, and how its weight is stored.
struct StoredLayer {
  std::string name;  ///< e.g. "transformer.h.0.mlp.c_fc"
  /// How the weight is stored; nothing: elements of a floating type that has no format (F64, ...).
  std::optional<WeightFormat> format = WeightFormat::float32;
  std::string tensor;  ///< that of the weight's elements or codes: NAME.weight, NAME.qweight
  /// What the form is called where the format's name is not all; else empty.
  std::string_view stored_as = {};
  DType dtype = DType::float32;  ///< of that tensor
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  bool transposed = false;   ///< a floating weight that is stored as [inputs, outputs] (Conv1D)
  bool stays_float = false;  ///< one that transformers never quantizes (output heads, T5's wo)
  std::uint64_t bytes = 0;   ///< of the weight with its scales; the bias is not in it
  std::uint64_t scales = 0;  ///< of these, bytes of scales, tables and formats

  [[nodiscard]] std::int64_t elements() const noexcept { return outputs * inputs; }
  /// Codes with scales, not elements of a floating type.
  [[nodiscard]] bool quantized() const noexcept { return format && !describe(*format).is_float(); }
  /// "fp32", "bf16", "int8", "nf4", ...: what the program calls a layer stored like this.
  [[nodiscard]] KVANT_API std::string_view scheme() const noexcept;
};

/// What config.json says that decides which weights are linear layers.
struct ModelHints {
  std::string model_type = {};  ///< "gpt_bigcode", ...; empty: not known
  std::optional<std::uint64_t> vocabulary = {};
  /// How config.json says that the model is quantized: its quant_method, "" where it has a section
  /// without one; nothing where it has none.
  std::optional<std::string> quant_method = {};
  std::string model_class = {};  ///< the first of "architectures": "LlamaForCausalLM", ...
  /// Why config.json could not be read; empty: it could be, or there is none.
  std::string problem = {};
};

/// From the config.json beside a checkpoint; empty where there is none, and where it cannot be
/// read, which `problem` tells then.
[[nodiscard]] KVANT_API ModelHints model_hints_of(const std::filesystem::path& checkpoint);

/// The linear layers, in the order of their names with numbers as numbers (h.2 before h.10).
/// A quantized weight always is one. A floating weight is one where its architecture says so (the
/// same tables that quantize_checkpoint uses), and for an architecture that kvant does not know if
/// it is two-dimensional and neither an embedding nor an output head by its name.
/// @throws FormatError structure: a 4-bit weight whose description cannot be read
[[nodiscard]] KVANT_API std::vector<StoredLayer> find_linear_layers(const Checkpoint& checkpoint,
                                                                    const ModelHints& hints = {});

/// True where a comes before b, runs of digits compared as numbers.
[[nodiscard]] KVANT_API bool natural_less(std::string_view a, std::string_view b) noexcept;

}  // namespace kvant::io
