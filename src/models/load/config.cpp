#include "kvant/models/config.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <system_error>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/text_file.hpp"
#include "models/load/families.hpp"

namespace kvant::models {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1u << 20;

const Family& find_family(const ConfigReader& reader) {
  if (!reader.has("model_type")) {
    reader.invalid("model_type is missing, which says what family the model is of");
  }
  const std::string type = reader.text("model_type", "");
  std::string known;
  for (const Family& family : family_table()) {
    if (family.model_type == type) return family;
    known.append(known.empty() ? "" : ", ").append(family.model_type);
  }
  reader.unsupported("model_type \"" + type.substr(0, 80) + "\" is not one of " + known);
}

void read_quantization(const ConfigReader& outer, Config& config) {
  if (!outer.has("quantization_config")) return;
  const ConfigReader reader = outer.object("quantization_config");
  bool int8 = false;
  bool four_bits = false;
  reader.boolean(int8, "load_in_8bit");
  reader.boolean(four_bits, "load_in_4bit");
  const std::string method = reader.text("quant_method", "bitsandbytes");
  if (method == "bitsandbytes" && int8) {
    config.int8.emplace();
    reader.number(config.int8->threshold, "llm_int8_threshold");
  } else if (method == "kvant" || method == "gptq" || method == "awq" ||
             method == "compressed-tensors" || method == "fp8" ||
             (method == "bitsandbytes" && four_bits)) {
    config.stored_quantized = true;
  } else {
    reader.unsupported("quantization_config: the method " + method.substr(0, 80) +
                       (method == "bitsandbytes" ? " with neither 8 nor 4 bits" : "") +
                       " is not one of those that are read: bitsandbytes, kvant, gptq, awq, "
                       "compressed-tensors, fp8");
  }
}

/// Older AutoGPTQ and AutoAWQ say in a file of their own that a model is quantized. (It may be left
/// over beside floats: the tensors say whether it counts.)
bool described_elsewhere(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "quantize_config.json", ignored) &&
      !std::filesystem::exists(folder / "quant_config.json", ignored)) {
    return false;
  }
  try {
    const io::Checkpoint checkpoint(folder, {.allow_missing = true});
    const auto tensors = checkpoint.tensors();
    return std::any_of(tensors.begin(), tensors.end(),
                       [](const io::TensorInfo* info) { return info->name.ends_with(".qweight"); });
  } catch (const Error&) {
    return false;  // whoever reads the weights says what is wrong
  }
}

/// What no family may leave unchecked, since memory and loops are sized by it.
void check(const ConfigReader& reader, const Config& config) {
  if (config.decoder_start_id >= config.vocab_size) {
    reader.invalid("decoder_start_token_id " + std::to_string(config.decoder_start_id) +
                   " is not below vocab_size " + std::to_string(config.vocab_size));
  }
  if (config.n_head % config.n_kv_head != 0) {
    reader.invalid(std::to_string(config.n_head) + " attention heads are not a multiple of " +
                   std::to_string(config.n_kv_head) + " key-value heads");
  }
  for (const std::int64_t size : {config.n_embd, config.n_inner, config.qkv_dim()}) {
    if (size > kSizeLimit) {
      reader.invalid("a layer of width " + std::to_string(size) + " (" +
                     std::to_string(config.n_head) + " heads of " +
                     std::to_string(config.head_dim) + ") is beyond any model");
    }
  }
}

}  // namespace

Config parse_config(std::string_view text, const std::string& file) {
  const nlohmann::json json = io::parse_json_tree(std::as_bytes(std::span(text)), file);
  const ConfigReader reader(json, file);
  const Family& family = find_family(reader);
  Config config;
  config.model_type = family.model_type;
  config.names = family.names;
  config.encoder_names = family.encoder_names;
  family.describe(reader, config);
  check(reader, config);
  if (config.attention_scale == 0.0f) {
    config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  }
  if (!config.head_may_be_stored) {
    reader.boolean(config.tie_word_embeddings, "tie_word_embeddings");
  }
  if (reader.is_null("bos_token_id")) config.bos_token_id = -1;
  reader.integer(config.bos_token_id, -1, kSizeLimit, "bos_token_id");
  reader.ids(config.eos_token_ids, "eos_token_id");
  read_quantization(reader, config);
  return config;
}

Config load_config(const std::filesystem::path& path) {
  Config config = parse_config(io::read_text_file(path, kMaxConfigBytes), path.string());
  if (!config.int8 && !config.stored_quantized) {
    config.stored_quantized = described_elsewhere(path.parent_path());
  }
  return config;
}

std::int64_t Config::bos() const {
  if (bos_token_id >= 0 && bos_token_id < vocab_size) return bos_token_id;
  const std::string what = bos_token_id < 0 ? std::string("none")
                                            : std::to_string(bos_token_id) +
                                                  ", the family's default where it says nothing";
  throw Error(ErrorCode::invalid_file,
              "a text is to begin with the token bos_token_id of config.json, which is " + what +
                  "; the vocabulary has the ids 0 to " + std::to_string(vocab_size - 1) +
                  ": add it there");
}

}  // namespace kvant::models
