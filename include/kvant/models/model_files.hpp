#pragma once

/// @file
/// ModelFiles: everything that a model is made of on disk: its description, tokenizer, chat
/// template and end tokens.
///
///     const kvant::models::ModelFiles files("SmolLM2-135M-Instruct");
///     const auto tokenizer = files.tokenizer();
///     const auto model = kvant::models::load_model(context, files.path(), files.config(),
///     options);

#include <filesystem>
#include <string>

#include "kvant/config.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/tokenizer.hpp"

namespace kvant::models {

/// A folder in Hugging Face form, or a GGUF file (".gguf"). Small files are read at once; weights
/// are load_model's.
class KVANT_API ModelFiles {
 public:
  /// Of a GGUF file everything is in its metadata. Of a folder: reads config.json, the end and
  /// start tokens of generation_config.json where there is one, and the chat template
  /// (chat_template.jinja, or the one in tokenizer_config.json).
  /// @throws Error as load_config; invalid_file for the other files
  explicit ModelFiles(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const Config& config() const noexcept { return config_; }
  /// The chat template in Jinja; empty: there is none.
  [[nodiscard]] const std::string& chat_template() const noexcept { return chat_template_; }
  /// From tokenizer.json, BERT's vocab.txt where there is none, or the metadata.
  /// @throws Error as Tokenizer; unsupported: SentencePiece's own files alone
  [[nodiscard]] Tokenizer tokenizer() const;

 private:
  std::filesystem::path path_;
  Config config_;
  std::string chat_template_;
};

}  // namespace kvant::models
