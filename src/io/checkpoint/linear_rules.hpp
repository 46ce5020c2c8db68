#pragma once

// Which weights of a model are linear layers, and which of these transformers keeps in float: a
// checkpoint whose 8-bit layers are other ones does not load there.
//
// transformers replaces the modules whose class is exactly nn.Linear or Conv1D, but the output
// head. A file does not say of which class a module was; what it does say: an embedding has no
// bias, a multi-head attention has in_proj_weight, experts and their routers have classes of their
// own. The rest are names (linear_rules.cpp) and what is known about single models
// (known_models.cpp).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/known_models.hpp"
#include "io/layers/values.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// What a tensor "LAYER.weight" is.
enum class WeightKind : std::uint8_t {
  linear,        ///< replaced by a quantized layer
  head,          ///< an output head, which transformers finds by itself and keeps in float
  float_linear,  ///< what stays in float always: routers, experts, T5's wo
  other,         ///< an embedding, a norm, a bias
};

class LinearRules {
 public:
  explicit LinearRules(const ModelHints& hints);

  /// Whether the rules were compared with what transformers does for this model_type.
  [[nodiscard]] bool known() const noexcept { return model_ != nullptr; }
  /// Whether the loaded model may have other names for its modules than the file.
  [[nodiscard]] bool renamed() const noexcept { return model_ == nullptr || model_->renamed; }
  /// Whether no list of modules with the file's names can be relied on.
  [[nodiscard]] bool renamed_inside() const noexcept {
    return model_ == nullptr || model_->renamed_inside;
  }
  /// Judges the tensor "LAYER.weight".
  [[nodiscard]] WeightKind judge(std::string_view layer, const TensorInfo& weight,
                                 const FindTensor& find) const;
  /// Whether the layer is stored as [in, out] when it is in float; its codes are [out, in].
  [[nodiscard]] bool transposed(std::string_view layer) const noexcept;
  /// The output heads, which stay in float even where they are not in the file, being tied.
  [[nodiscard]] std::vector<std::string> heads() const;
  /// "HEAD.decoder" where a file has the bias "HEAD.bias" with a row per token and no weight beside
  /// it: BERT's and its relatives' heads, whose weight is tied to the embedding.
  [[nodiscard]] std::optional<std::string> tied_head(const TensorInfo& tensor,
                                                     const FindTensor& find) const;

 private:
  [[nodiscard]] bool is_embedding(std::string_view layer, bool biased) const;
  [[nodiscard]] bool is_head(std::string_view layer, const TensorInfo& weight, bool biased) const;
  [[nodiscard]] bool stays_float(std::string_view layer, const FindTensor& find) const;

  const Architecture* architecture_;
  const KnownModel* model_;
  std::optional<std::uint64_t> vocabulary_;
};

/// "transformer.h.0.mlp.c_fc" of "transformer.h.0.mlp.c_fc.weight"; nothing for other names.
[[nodiscard]] std::optional<std::string_view> layer_of_weight(std::string_view tensor) noexcept;

}  // namespace kvant::io
