#include "io/checkpoint/linear_rules.hpp"

#include <algorithm>

namespace kvant::io {
namespace {

/// Whether `word` is in a list of words with one blank between them.
bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::string_view last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

/// Layers are told by the last part of their names, wherever they are.
bool is_block_linear(const BlockLinears& linears, std::string_view last) {
  for (const std::string_view name :
       {linears.qkv, linears.q, linears.k, linears.v, linears.attention_output, linears.gate,
        linears.up, linears.down}) {
    if (!name.empty() && last_part(name) == last) return true;
  }
  return false;
}

/// For models that are not in the table.
WeightKind guess(std::string_view layer, const TensorInfo& weight,
                 std::optional<std::uint64_t> vocabulary) {
  const std::string_view last = last_part(layer);
  if (has_word("lm_head embed_out score classifier output_projection qa_outputs", last) ||
      layer.ends_with("predictions.decoder")) {
    return WeightKind::float_linear;
  }
  if (has_word("wte wpe shared relative_attention_bias", last) ||
      layer.find("embed") != std::string_view::npos) {
    return WeightKind::other;
  }
  // A row per token under another name: the output head, or an embedding, which --skip suits too.
  if (vocabulary && weight.shape[0] == *vocabulary) return WeightKind::float_linear;
  return WeightKind::linear;
}

}  // namespace

WeightKind LinearRules::judge(std::string_view layer, const TensorInfo& weight) const {
  const bool floating = describe(weight.dtype).kind == DTypeKind::floating;
  if (weight.shape.size() != 2 || (!floating && weight.dtype != DType::int8)) {
    return WeightKind::other;
  }
  if (architecture_ == nullptr) return guess(layer, weight, vocabulary_);
  const Architecture& known = *architecture_;
  const std::string_view last = last_part(layer);
  if (last == last_part(known.tokens) ||
      (!known.positions.empty() && last == last_part(known.positions)) ||
      has_word(known.other_embeddings, last)) {
    return WeightKind::other;
  }
  if (layer == known.head || has_word(known.float_linears, last)) return WeightKind::float_linear;
  if (is_block_linear(known.linears, last) || has_word(known.other_linears, last)) {
    return WeightKind::linear;
  }
  // A two-dimensional weight that is in no column (a head of a fine-tuned model).
  return WeightKind::float_linear;
}

std::optional<std::string_view> layer_of_weight(std::string_view tensor) noexcept {
  constexpr std::string_view kSuffix = ".weight";
  if (!tensor.ends_with(kSuffix) || tensor.size() == kSuffix.size()) return std::nullopt;
  return tensor.substr(0, tensor.size() - kSuffix.size());
}

}  // namespace kvant::io
