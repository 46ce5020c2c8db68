// A GGUF file's metadata as config.json.

#include <array>
#include <nlohmann/json.hpp>

#include "kvant/error.hpp"
#include "models/load/gguf_model.hpp"

namespace kvant::models {
namespace {

/// The architectures that are read; tensors of the others have other names or orders.
constexpr std::array<std::string_view, 3> kArchitectures = {"llama", "qwen2", "qwen3"};

class Metadata {
 public:
  explicit Metadata(const io::Gguf& file) : file_(file), architecture_(find_architecture()) {}

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const {
    throw Error(code, file_.name() + ": " + what);
  }
  [[nodiscard]] const std::string& architecture() const { return architecture_; }
  [[nodiscard]] std::string key(const char* name) const { return architecture_ + "." + name; }

  [[nodiscard]] std::int64_t integer(const char* name) const {
    const auto value = file_.integer(key(name));
    if (!value) fail(ErrorCode::invalid_file, key(name) + " is missing or no integer");
    return *value;
  }
  void copy_integer(nlohmann::json& json, const char* to, const std::string& from) const {
    if (!file_.has(from)) return;
    const auto value = file_.integer(from);
    if (!value) fail(ErrorCode::invalid_file, from + " is no integer");
    json[to] = *value;
  }
  void copy_number(nlohmann::json& json, const char* to, const std::string& from) const {
    if (!file_.has(from)) return;
    const auto value = file_.number(from);
    if (!value) fail(ErrorCode::invalid_file, from + " is no number");
    json[to] = *value;
  }
  /// Refuses values that would change the results and are not built.
  void require_absent(const char* name) const {
    if (file_.has(key(name))) {
      fail(ErrorCode::unsupported, key(name) + " is set, which is not supported");
    }
  }

 private:
  [[nodiscard]] std::string find_architecture() const {
    const auto name = file_.text("general.architecture");
    if (!name) fail(ErrorCode::invalid_file, "general.architecture is missing");
    std::string known;
    for (const std::string_view each : kArchitectures) {
      if (each == *name) return std::string(*name);
      known.append(known.empty() ? "" : ", ").append(each);
    }
    fail(ErrorCode::unsupported, "the architecture \"" + std::string(name->substr(0, 60)) +
                                     "\" is not one of those that are run from GGUF: " + known);
  }

  const io::Gguf& file_;
  std::string architecture_;
};

nlohmann::json rope(const io::Gguf& file, const Metadata& metadata) {
  nlohmann::json json = nlohmann::json::object();
  metadata.copy_number(json, "rope_theta", metadata.key("rope.freq_base"));
  const auto type = file.text(metadata.key("rope.scaling.type"));
  if (!type || *type == "none") {
    metadata.require_absent("rope.scale_linear");
    return json;
  }
  if (*type != "linear" && *type != "yarn") {
    metadata.fail(ErrorCode::unsupported, "rope.scaling.type \"" +
                                              std::string(type->substr(0, 40)) +
                                              "\" is not one of none, linear, yarn");
  }
  json["rope_type"] = *type;
  metadata.copy_number(json, "factor", metadata.key("rope.scaling.factor"));
  metadata.copy_number(json, "attention_factor", metadata.key("rope.scaling.attn_factor"));
  metadata.copy_integer(json, "original_max_position_embeddings",
                        metadata.key("rope.scaling.original_context_length"));
  return json;
}

}  // namespace

nlohmann::json gguf_config(const io::Gguf& file) {
  const Metadata metadata(file);
  for (const char* name :
       {"expert_count", "attention.scale", "logit_scale", "embedding_scale", "residual_scale",
        "attention.clamp_kqv", "attn_logit_softcapping", "final_logit_softcapping"}) {
    metadata.require_absent(name);
  }
  const io::GgufTensor* tokens = file.find_gguf("token_embd.weight");
  if (tokens == nullptr || tokens->shape.size() != 2) {
    metadata.fail(ErrorCode::invalid_file, "token_embd.weight is missing or no matrix");
  }
  nlohmann::json json = {
      {"model_type", metadata.architecture()},
      {"vocab_size", tokens->shape[0]},
      {"hidden_size", metadata.integer("embedding_length")},
      {"num_hidden_layers", metadata.integer("block_count")},
      {"num_attention_heads", metadata.integer("attention.head_count")},
      {"num_key_value_heads", metadata.integer("attention.head_count")},
      {"intermediate_size", metadata.integer("feed_forward_length")},
      {"max_position_embeddings", metadata.integer("context_length")},
      {"tie_word_embeddings", !file.contains("output.weight")},
      {"attention_bias", file.contains("blk.0.attn_q.bias")},
      {"rope_parameters", rope(file, metadata)},
  };
  metadata.copy_integer(json, "num_key_value_heads", metadata.key("attention.head_count_kv"));
  metadata.copy_integer(json, "head_dim", metadata.key("attention.key_length"));
  metadata.copy_number(json, "rms_norm_eps", metadata.key("attention.layer_norm_rms_epsilon"));
  metadata.copy_integer(json, "bos_token_id", "tokenizer.ggml.bos_token_id");
  metadata.copy_integer(json, "eos_token_id", "tokenizer.ggml.eos_token_id");
  if (file.has(metadata.key("attention.sliding_window"))) {
    if (metadata.architecture() != "llama") metadata.require_absent("attention.sliding_window");
    json["model_type"] = "mistral";
    metadata.copy_integer(json, "sliding_window", metadata.key("attention.sliding_window"));
  }
  return json;
}

void apply_gguf_frequencies(const io::Gguf& file, Config& config) {
  const io::GgufTensor* tensor = file.find_gguf("rope_freqs.weight");
  if (tensor == nullptr) return;
  const auto pairs = static_cast<std::size_t>(config.rotary.dims / 2);
  if (tensor->shape != std::vector<std::uint64_t>{pairs}) {
    throw Error(ErrorCode::shape_mismatch,
                file.name() + ": rope_freqs.weight is not a vector of " + std::to_string(pairs));
  }
  config.rotary.divisors.resize(pairs);
  file.dequantize("rope_freqs.weight", 0, 1, config.rotary.divisors.data());
}

}  // namespace kvant::models
