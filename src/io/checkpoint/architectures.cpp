#include "io/checkpoint/architectures.hpp"

#include <algorithm>
#include <array>

namespace kvant::io {
namespace {

constexpr std::string_view kLlamaLinears =
    "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj";
constexpr std::string_view kNeoxLinears = "query_key_value dense dense_h_to_4h dense_4h_to_h";

/// Whether `word` stands in a list of words with one blank between them.
bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::string_view last_component(std::string_view module) {
  const std::size_t dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

/// For models that are not in the table.
ModuleKind guess(std::string_view module, const TensorInfo& weight,
                 std::optional<std::uint64_t> vocabulary) {
  const std::string_view last = last_component(module);
  if (has_word("lm_head embed_out score classifier output_projection qa_outputs", last) ||
      module.ends_with("predictions.decoder")) {
    return ModuleKind::kept_linear;
  }
  if (has_word("wte wpe shared relative_attention_bias", last) ||
      module.find("embed") != std::string_view::npos) {
    return ModuleKind::other;
  }
  // A row per token under another name: the output head, or an embedding, which --skip suits too.
  if (vocabulary && weight.shape[0] == *vocabulary) return ModuleKind::kept_linear;
  return ModuleKind::linear;
}

}  // namespace

/// Modules by the last part of their name. A two-dimensional weight that is in no column (a head of
/// a fine-tuned model) is a linear layer that stays in float.
struct Architecture::Row {
  std::string_view model_type;
  std::string_view linears;
  std::string_view heads;  ///< full names
  std::string_view kept;   ///< linears that transformers keeps in float
  std::string_view embeddings;
  bool transposed;
};

const Architecture::Row Architecture::kTable[] = {
    {"gpt_bigcode", "c_attn q_attn c_proj c_fc", "lm_head", "", "wte wpe", false},
    {"gpt2", "c_attn q_attn c_proj c_fc", "lm_head", "", "wte wpe", true},
    {"llama", kLlamaLinears, "lm_head", "", "embed_tokens", false},
    {"mistral", kLlamaLinears, "lm_head", "", "embed_tokens", false},
    {"qwen2", kLlamaLinears, "lm_head", "", "embed_tokens", false},
    {"opt", "q_proj k_proj v_proj out_proj fc1 fc2 project_in project_out", "lm_head", "",
     "embed_tokens embed_positions", false},
    {"bloom", kNeoxLinears, "lm_head", "", "word_embeddings", false},
    {"gpt_neox", kNeoxLinears, "embed_out", "", "embed_in", false},
    {"bert", "query key value dense", "cls.predictions.decoder", "",
     "word_embeddings position_embeddings token_type_embeddings", false},
    {"t5", "q k v o wi wi_0 wi_1", "lm_head", "wo", "shared embed_tokens relative_attention_bias",
     false},
};

Architecture Architecture::of(const std::string& model_type,
                              std::optional<std::uint64_t> vocabulary) {
  Architecture result;
  result.vocabulary_ = vocabulary;
  const auto* row = std::find_if(std::begin(kTable), std::end(kTable),
                                 [&](const Row& r) { return r.model_type == model_type; });
  if (row != std::end(kTable)) result.row_ = row;
  return result;
}

ModuleKind Architecture::judge(std::string_view module, const TensorInfo& weight) const {
  const bool floating = describe(weight.dtype).kind == DTypeKind::floating;
  if (weight.shape.size() != 2 || (!floating && weight.dtype != DType::int8)) {
    return ModuleKind::other;
  }
  if (row_ == nullptr) return guess(module, weight, vocabulary_);
  const std::string_view last = last_component(module);
  if (has_word(row_->embeddings, last)) return ModuleKind::other;
  if (has_word(row_->heads, module) || has_word(row_->kept, last)) return ModuleKind::kept_linear;
  return has_word(row_->linears, last) ? ModuleKind::linear : ModuleKind::kept_linear;
}

bool Architecture::transposed() const noexcept {
  return row_ != nullptr && row_->transposed;
}

std::vector<std::string> Architecture::heads() const {
  if (row_ == nullptr) return {"lm_head"};
  return {std::string(row_->heads)};
}

std::optional<std::string_view> module_of_weight(std::string_view tensor) noexcept {
  constexpr std::string_view kSuffix = ".weight";
  if (!tensor.ends_with(kSuffix) || tensor.size() == kSuffix.size()) return std::nullopt;
  return tensor.substr(0, tensor.size() - kSuffix.size());
}

}  // namespace kvant::io
