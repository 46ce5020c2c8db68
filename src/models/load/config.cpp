#include "kvant/models/config.hpp"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"

namespace kvant::models {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1u << 20;

/// Reads typed members, with errors that name file and key.
class Reader {
 public:
  Reader(const nlohmann::json& json, const std::string& file) : json_(json), file_(file) {}

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const {
    throw Error(code, file_ + ": " + what);
  }

  /// The member, by its name or its alias; null counts as missing.
  [[nodiscard]] const nlohmann::json* find(const char* name, const char* alias = nullptr) const {
    for (const char* key : {name, alias}) {
      if (key == nullptr) continue;
      const auto it = json_.find(key);
      if (it != json_.end() && !it->is_null()) return &*it;
    }
    return nullptr;
  }

  void integer(std::int64_t& value, std::int64_t low, std::int64_t high, const char* name,
               const char* alias = nullptr) const {
    const nlohmann::json* member = find(name, alias);
    if (member == nullptr) return;
    const bool fits = member->is_number_unsigned()
                          ? member->get<std::uint64_t>() <= static_cast<std::uint64_t>(high)
                          : member->is_number_integer();
    if (!fits || member->get<std::int64_t>() < low) {
      fail(ErrorCode::invalid_file, std::string(name) + " is " + member->dump() +
                                        ", not an integer from " + std::to_string(low) + " to " +
                                        std::to_string(high));
    }
    value = member->get<std::int64_t>();
  }

  void boolean(bool& value, const char* name) const {
    const nlohmann::json* member = find(name);
    if (member == nullptr) return;
    if (!member->is_boolean()) {
      fail(ErrorCode::invalid_file,
           std::string(name) + " is " + member->dump() + ", not true or false");
    }
    value = member->get<bool>();
  }

  void number(float& value, const char* name) const {
    const nlohmann::json* member = find(name);
    if (member == nullptr) return;
    const double number = member->is_number() ? member->get<double>() : -1;
    if (!(number >= 0 && std::isfinite(number))) {
      fail(ErrorCode::invalid_file,
           std::string(name) + " is " + member->dump() + ", not a number from 0 up");
    }
    value = static_cast<float>(number);
  }

  [[nodiscard]] std::string text(const char* name, const char* fallback) const {
    const nlohmann::json* member = find(name);
    if (member == nullptr) return fallback;
    if (!member->is_string()) {
      fail(ErrorCode::invalid_file, std::string(name) + " is not a string");
    }
    return member->get<std::string>();
  }

 private:
  const nlohmann::json& json_;
  const std::string& file_;
};

Activation activation_from_name(const Reader& reader, const std::string& name) {
  static const std::map<std::string, Activation> kNames = {
      {"gelu", Activation::gelu_erf},
      {"gelu_python", Activation::gelu_erf},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"quick_gelu", Activation::quick_gelu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
      {"relu", Activation::relu}};
  const auto it = kNames.find(name);
  if (it != kNames.end()) return it->second;
  std::string known;
  for (const auto& [key, value] : kNames) known += (known.empty() ? "" : ", ") + key;
  reader.fail(ErrorCode::unsupported,
              "activation_function \"" + name.substr(0, 80) + "\" is not one of " + known);
}

std::optional<QuantizationConfig> quantization(const Reader& outer, const std::string& file) {
  const nlohmann::json* member = outer.find("quantization_config");
  if (member == nullptr) return std::nullopt;
  if (!member->is_object()) {
    outer.fail(ErrorCode::invalid_file, "quantization_config is not an object");
  }
  const Reader reader(*member, file);
  bool int8 = false;
  reader.boolean(int8, "load_in_8bit");
  const std::string method = reader.text("quant_method", "bitsandbytes");
  if (method != "bitsandbytes" || !int8) {
    reader.fail(ErrorCode::unsupported,
                "quantization_config: only the 8-bit form of bitsandbytes can be loaded here, this "
                "is " +
                    method.substr(0, 80) + (int8 ? "" : " without load_in_8bit") +
                    "; kvant dequantize makes a float model of it");
  }
  QuantizationConfig result;
  reader.number(result.threshold, "llm_int8_threshold");
  return result;
}

}  // namespace

Config parse_config(std::string_view text, const std::string& file) {
  const nlohmann::json json = io::parse_json_tree(std::as_bytes(std::span(text)), file);
  const Reader reader(json, file);
  if (const std::string type = reader.text("model_type", "gpt_bigcode"); type != "gpt_bigcode") {
    reader.fail(ErrorCode::unsupported,
                "model_type \"" + type.substr(0, 80) + "\" is not \"gpt_bigcode\"");
  }
  bool cross_attention = false;
  reader.boolean(cross_attention, "add_cross_attention");
  if (cross_attention) {
    reader.fail(ErrorCode::unsupported, "add_cross_attention is true");
  }

  // Sizes far beyond any model, so that no product of two of them can overflow.
  constexpr std::int64_t kLimit = std::int64_t{1} << 28;
  Config config;
  reader.integer(config.vocab_size, 1, kLimit, "vocab_size");
  reader.integer(config.n_positions, 1, kLimit, "n_positions", "max_position_embeddings");
  reader.integer(config.n_embd, 1, kLimit, "n_embd", "hidden_size");
  reader.integer(config.n_layer, 1, 100'000, "n_layer", "num_hidden_layers");
  reader.integer(config.n_head, 1, kLimit, "n_head", "num_attention_heads");
  config.n_inner = 4 * config.n_embd;
  reader.integer(config.n_inner, 1, kLimit, "n_inner");
  reader.number(config.layer_norm_epsilon, "layer_norm_epsilon");
  reader.boolean(config.scale_attn_weights, "scale_attn_weights");
  reader.boolean(config.multi_query, "multi_query");
  reader.boolean(config.tie_word_embeddings, "tie_word_embeddings");
  reader.integer(config.bos_token_id, 0, kLimit, "bos_token_id");
  // Missing means the default, null means that there is none.
  if (const auto it = json.find("eos_token_id"); it != json.end() && it->is_null()) {
    config.eos_token_id = -1;
  }
  reader.integer(config.eos_token_id, -1, kLimit, "eos_token_id");
  config.activation =
      activation_from_name(reader, reader.text("activation_function", "gelu_pytorch_tanh"));
  if (config.n_embd % config.n_head != 0) {
    reader.fail(ErrorCode::invalid_file, "n_embd " + std::to_string(config.n_embd) +
                                             " is not divisible by n_head " +
                                             std::to_string(config.n_head));
  }
  config.int8 = quantization(reader, file);
  return config;
}

Config load_config(const std::filesystem::path& path) {
  return parse_config(io::read_text_file(path, kMaxConfigBytes), path.string());
}

}  // namespace kvant::models
