#include "io/file/checkpoint_layout.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>

namespace kvant::io {
namespace {

namespace fs = std::filesystem;

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// model-00001-of-00002.safetensors
bool is_shard(std::string_view name) {
  constexpr std::string_view kBegin = "model-";
  constexpr std::string_view kEnd = ".safetensors";
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) return false;
  name = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
  const std::size_t of = name.find("-of-");
  return of != std::string_view::npos && is_digits(name.substr(0, of)) &&
         is_digits(name.substr(of + 4));
}

template <std::size_t N>
bool is_one_of(const std::array<std::string_view, N>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// What tools that save models, tokenizers and processors call their files.
constexpr std::array<std::string_view, 34> kCompanions = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "bpe.codes",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "normalizer.json",
    "params.json",
    "params.yaml",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    ".gitattributes",
};
constexpr std::array<std::string_view, 4> kOtherQuantizations = {
    "hf_quant_config.json", "quantize_config.json", "quant_config.json",
    "quantization_config.json"};
constexpr std::array<std::string_view, 15> kWeightKinds = {
    ".bin",  ".pt",   ".pth", ".ckpt",   ".h5",      ".msgpack", ".onnx",       ".onnx_data",
    ".gguf", ".ggml", ".ot",  ".tflite", ".mlmodel", ".npz",     ".safetensors"};

}  // namespace

FileRole role_of(const fs::path& name) {
  const std::string file = name.filename().string();
  const bool top = !name.has_parent_path();
  if (top && (file == kSingleFile || file == kIndexFile || is_shard(file))) {
    return FileRole::weights;
  }
  if (top && file == "config.json") return FileRole::config;
  if (is_one_of(kOtherQuantizations, file)) return FileRole::other_quantization;
  if (top && is_one_of(kCompanions, file)) return FileRole::companion;
  // Templates beside the chat_template.jinja.
  if (name.parent_path() == "additional_chat_templates" && name.extension() == ".jinja") {
    return FileRole::companion;
  }
  if (is_one_of(kWeightKinds, name.extension().string()) || file.ends_with(".index.json")) {
    return FileRole::other_weights;
  }
  return FileRole::unknown;
}

bool holds_checkpoint(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kSingleFile, error) || fs::exists(folder / kIndexFile, error);
}

bool is_inside(const fs::path& inner, const fs::path& outer) {
  const auto [o, i] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return o == outer.end();
}

std::optional<fs::path> find_strange_file(const fs::path& folder,
                                          const std::vector<fs::path>& known) {
  std::error_code error;
  std::vector<fs::path> strange;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    const fs::path name = at->path().lexically_relative(folder);
    if (fs::is_directory(at->symlink_status(ignored))) {
      if (fs::is_empty(at->path(), ignored)) strange.push_back(name);
      continue;
    }
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    switch (role_of(name)) {
      case FileRole::weights:
      case FileRole::config:
      case FileRole::companion: break;
      default: strange.push_back(name);
    }
  }
  if (error) return fs::path(".");  // what cannot be looked into is not removed
  if (strange.empty()) return std::nullopt;
  return *std::min_element(strange.begin(), strange.end());
}

}  // namespace kvant::io
