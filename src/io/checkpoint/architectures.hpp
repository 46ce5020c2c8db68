#pragma once

// Which weights of a model are linear layers, and which of these transformers keeps in float: a
// checkpoint whose 8-bit layers are other ones does not load there.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/tensor.hpp"

namespace kvant::io {

enum class ModuleKind : std::uint8_t {
  linear,       ///< replaced by an 8-bit layer
  kept_linear,  ///< a linear layer that stays in float: output heads, T5's wo
  other,        ///< an embedding, a norm, a bias
};

class Architecture {
 public:
  /// By config.json's model_type; an unknown one gives rules that guess by name and shape.
  /// @param vocabulary rows of embeddings and output heads, where config.json says
  static Architecture of(const std::string& model_type, std::optional<std::uint64_t> vocabulary);

  /// Whether the model_type is in the table.
  [[nodiscard]] bool known() const noexcept { return row_ != nullptr; }
  /// Judges the tensor "MODULE.weight".
  [[nodiscard]] ModuleKind judge(std::string_view module, const TensorInfo& weight) const;
  /// Whether linear weights are stored as [in, out] (GPT-2's Conv1D); their codes are [out, in].
  [[nodiscard]] bool transposed() const noexcept;
  /// Output heads that are kept even where they are not in the file, being tied to the embedding.
  [[nodiscard]] std::vector<std::string> heads() const;

 private:
  struct Row;
  static const Row kTable[];
  const Row* row_ = nullptr;
  std::optional<std::uint64_t> vocabulary_;
};

/// "transformer.h.0.mlp.c_fc" of "transformer.h.0.mlp.c_fc.weight"; nothing for other names.
[[nodiscard]] std::optional<std::string_view> module_of_weight(std::string_view tensor) noexcept;

}  // namespace kvant::io
