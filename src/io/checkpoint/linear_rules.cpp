#include "io/checkpoint/linear_rules.hpp"

#include <algorithm>
#include <array>

namespace kvant::io {
namespace {

std::string_view last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

std::string_view without_last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

bool is_number(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Whether some part of a name, but the last one, fulfils a condition.
template <class Condition>
bool any_parent(std::string_view name, Condition condition) {
  for (std::string_view rest = without_last_part(name); !rest.empty();
       rest = without_last_part(rest)) {
    if (condition(last_part(rest))) return true;
  }
  return false;
}

bool in_numbered_block(std::string_view layer) {
  return any_parent(layer, is_number);
}

// Last parts of names.
constexpr std::string_view kEmbeddings =
    "wte wpe shared relative_attention_bias embed_in embeddings";
constexpr std::array<std::string_view, 4> kNotTables = {"proj", "mapping", "dense", "patch"};
constexpr std::string_view kOutputHeads = "lm_head embed_out output_projection";
/// Of fine-tuned models. Without a bias they are the last parameter of the model, which
/// transformers keeps in float; with one they become 8-bit layers.
constexpr std::string_view kTaskHeads = "score classifier qa_outputs text_projection";
constexpr std::string_view kRouters = "gate router";

}  // namespace

bool has_word(std::string_view list, std::string_view word) noexcept {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

bool has_ending(std::string_view list, std::string_view name) noexcept {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    const std::string_view word = list.substr(0, end);
    if (name == word || (name.size() > word.size() && name.ends_with(word) &&
                         name[name.size() - word.size() - 1] == '.')) {
      return true;
    }
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

LinearRules::LinearRules(const ModelHints& hints)
    : architecture_(find_architecture(hints.model_type)),
      model_(find_known_model(hints.model_type)),
      vocabulary_(hints.vocabulary) {}

bool LinearRules::is_embedding(std::string_view layer, bool biased) const {
  if (biased) return false;  // a table that is looked up has none
  std::string_view last = last_part(layer);
  if (is_number(last)) last = last_part(without_last_part(layer));  // one of several
  if (architecture_ != nullptr &&
      (last == last_part(architecture_->tokens) ||
       (!architecture_->positions.empty() && last == last_part(architecture_->positions)) ||
       has_word(architecture_->other_embeddings, last))) {
    return true;
  }
  if (has_word(kEmbeddings, last)) return true;
  if (last.ends_with("_token") || last.ends_with("_tokens")) return true;
  if (last.find("emb") == std::string_view::npos && last.find("Emb") == std::string_view::npos) {
    return false;
  }
  // "embeddings_project", "embedding_hidden_mapping_in": layers beside an embedding.
  return std::none_of(kNotTables.begin(), kNotTables.end(), [&](std::string_view word) {
    return last.find(word) != std::string_view::npos;
  });
}

bool LinearRules::is_head(std::string_view layer, const TensorInfo& weight, bool biased) const {
  const std::string_view last = last_part(layer);
  if (architecture_ != nullptr && layer == architecture_->head) return true;
  if (model_ != nullptr && has_ending(model_->heads, layer)) return true;
  if (has_word(kOutputHeads, last) || last_part(without_last_part(layer)) == "lm_heads" ||
      layer.ends_with("predictions.decoder"))
    return true;
  if (in_numbered_block(layer)) return false;
  if (has_word(kTaskHeads, last) && !biased) return true;
  // A row per token under another name: the output head, or an embedding, which stays too.
  return vocabulary_ && weight.shape[0] == *vocabulary_;
}

bool LinearRules::stays_float(std::string_view layer, const FindTensor& find) const {
  const std::string_view last = last_part(layer);
  const std::string_view parent = without_last_part(layer);
  if (model_ != nullptr && has_ending(model_->float_linears, layer)) return true;
  // Of T5 and its relatives, and of DeepSeek's sparse attention: asked for in float32.
  if (has_ending("DenseReluDense.wo indexer.weights_proj", layer)) return true;
  if (architecture_ != nullptr && architecture_->keeps_float(layer)) return true;
  // torch's MultiheadAttention, whose output projection is of a class of its own.
  if (last == "out_proj" && find(std::string(parent) + ".in_proj_weight").info != nullptr) {
    return true;
  }
  if (has_word(kRouters, last) || last_part(parent) == "router") return true;
  // The experts of a block are one module, even where the file has their weights one by one.
  return any_parent(layer, [](std::string_view part) { return part == "experts"; });
}

WeightKind LinearRules::judge(std::string_view layer, const TensorInfo& weight,
                              const FindTensor& find) const {
  const bool floating = describe(weight.dtype).kind == DTypeKind::floating;
  if (weight.shape.size() != 2 || (!floating && weight.dtype != DType::int8)) {
    return WeightKind::other;
  }
  if (model_ != nullptr && has_ending(model_->linears, layer)) return WeightKind::linear;
  const bool biased = find(std::string(layer) + ".bias").info != nullptr;
  if (is_embedding(layer, biased)) return WeightKind::other;
  if (is_head(layer, weight, biased)) return WeightKind::head;
  if (biased) {
    // Stored the other way round, which only known models are known to mean.
    const TensorInfo& bias = *find(std::string(layer) + ".bias").info;
    const std::uint64_t outputs = weight.shape[transposed(layer) ? 1 : 0];
    const bool fits = bias.shape.size() == 1 && bias.shape[0] == outputs;
    if (floating && !fits) return WeightKind::float_linear;
  }
  if (stays_float(layer, find)) return WeightKind::float_linear;
  return WeightKind::linear;
}

bool LinearRules::transposed(std::string_view layer) const noexcept {
  return model_ != nullptr && has_ending(model_->transposed, layer);
}

std::vector<std::string> LinearRules::heads() const {
  std::vector<std::string> result;
  if (architecture_ != nullptr) result.emplace_back(architecture_->head);
  std::string_view list = model_ != nullptr ? model_->heads : std::string_view("lm_head");
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    const std::string_view word = list.substr(0, end);
    if (architecture_ == nullptr || word != architecture_->head) result.emplace_back(word);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return result;
}

std::optional<std::string> LinearRules::tied_head(const TensorInfo& tensor,
                                                  const FindTensor& find) const {
  constexpr std::string_view kBias = ".bias";
  const std::string& name = tensor.name;
  if (!vocabulary_ || tensor.shape != std::vector<std::uint64_t>{*vocabulary_}) return std::nullopt;
  if (!name.ends_with(kBias)) return std::nullopt;
  const std::string head = name.substr(0, name.size() - kBias.size());
  if (find(head + ".weight").info != nullptr) return std::nullopt;
  return head + ".decoder";
}

std::optional<std::string_view> layer_of_weight(std::string_view tensor) noexcept {
  constexpr std::string_view kSuffix = ".weight";
  if (!tensor.ends_with(kSuffix) || tensor.size() == kSuffix.size()) return std::nullopt;
  return tensor.substr(0, tensor.size() - kSuffix.size());
}

}  // namespace kvant::io
