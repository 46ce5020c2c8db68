#pragma once

// Which weights of a model are linear layers, and which of these transformers keeps in float: a
// checkpoint whose 8-bit layers are other ones does not load there.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/architecture.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// What a tensor "LAYER.weight" is.
enum class WeightKind : std::uint8_t {
  linear,        ///< replaced by a quantized layer
  float_linear,  ///< a linear layer that stays in float: output heads, T5's wo
  other,         ///< an embedding, a norm, a bias
};

class LinearRules {
 public:
  /// By config.json's model_type; an unknown one gives rules that guess by name and shape.
  /// @param vocabulary rows of embeddings and output heads, where config.json says
  LinearRules(const std::string& model_type, std::optional<std::uint64_t> vocabulary)
      : architecture_(find_architecture(model_type)), vocabulary_(vocabulary) {}

  /// Whether the model_type is in the table.
  [[nodiscard]] bool known() const noexcept { return architecture_ != nullptr; }
  /// Judges the tensor "LAYER.weight".
  [[nodiscard]] WeightKind judge(std::string_view layer, const TensorInfo& weight) const;
  /// Whether linear weights are stored as [in, out]; their codes are [out, in].
  [[nodiscard]] bool transposed() const noexcept {
    return architecture_ != nullptr && architecture_->transposed;
  }
  /// The output head, which stays in float even where it is not in the file, being tied.
  [[nodiscard]] std::string head() const {
    return std::string(architecture_ == nullptr ? "lm_head" : architecture_->head);
  }

 private:
  const Architecture* architecture_;
  std::optional<std::uint64_t> vocabulary_;
};

/// "transformer.h.0.mlp.c_fc" of "transformer.h.0.mlp.c_fc.weight"; nothing for other names.
[[nodiscard]] std::optional<std::string_view> layer_of_weight(std::string_view tensor) noexcept;

}  // namespace kvant::io
