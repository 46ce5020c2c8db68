#include "kvant/models/model_files.hpp"

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/load/config_reader.hpp"
#include "models/text/vocabulary_file.hpp"

namespace kvant::models {
namespace {

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// "chat_template": a text, or a list of named ones, of which "default" counts.
std::string template_in(const nlohmann::json& json) {
  const auto member = json.find("chat_template");
  if (member == json.end()) return {};
  if (member->is_string()) return member->get<std::string>();
  if (!member->is_array()) return {};
  for (const nlohmann::json& each : *member) {
    if (!each.is_object() || each.value("name", "") != "default") continue;
    const auto text = each.find("template");
    if (text != each.end() && text->is_string()) return text->get<std::string>();
  }
  return {};
}

}  // namespace

ModelFiles::ModelFiles(std::filesystem::path path) : path_(std::move(path)) {
  if (is_gguf(path_)) {
    const io::Gguf file(path_);
    config_ = parse_config(gguf_config(file).dump(), file.name());
    apply_gguf_frequencies(file, config_);
    config_.stored_quantized = holds_blocks(file);
    config_.stored_tables = holds_table_blocks(file);
    chat_template_ = file.text("tokenizer.chat_template").value_or("");
    return;
  }
  config_ = load_config(path_ / "config.json");
  const std::filesystem::path generation = path_ / "generation_config.json";
  if (is_there(generation)) {
    const nlohmann::json json = io::read_json_tree(generation);
    const std::string name = generation.string();
    const ConfigReader reader(json, name);
    reader.ids(config_.eos_token_ids, "eos_token_id");
    reader.integer(config_.decoder_start_id, 0, config_.vocab_size - 1, "decoder_start_token_id");
  }
  const std::filesystem::path jinja = path_ / "chat_template.jinja";
  const std::filesystem::path tokenizer_config = path_ / "tokenizer_config.json";
  if (is_there(jinja)) {
    chat_template_ = io::read_text_file(jinja);
  } else if (is_there(tokenizer_config)) {
    chat_template_ = template_in(io::read_json_tree(tokenizer_config));
  }
}

Tokenizer ModelFiles::tokenizer() const {
  if (is_gguf(path_)) {
    const io::Gguf file(path_);
    return {gguf_tokenizer(file).dump(), file.name()};
  }
  const std::filesystem::path json = path_ / "tokenizer.json";
  if (is_there(json)) return Tokenizer(json);
  const std::filesystem::path lines = path_ / "vocab.txt";
  if (is_there(lines)) return {word_piece_tokenizer(path_).dump(), lines.string()};
  for (const char* name : {"spiece.model", "tokenizer.model", "sentencepiece.bpe.model"}) {
    if (!is_there(path_ / name)) continue;
    throw Error(ErrorCode::unsupported,
                (path_ / name).string() +
                    " is not read, and there is no tokenizer.json beside it; transformers makes "
                    "one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)");
  }
  return Tokenizer(json);  // says what is missing
}

}  // namespace kvant::models
