#include "models/gguf/pre_tokenizers.hpp"

#include <nlohmann/json.hpp>

namespace kvant::models {
namespace {

using nlohmann::json;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json byte_level(bool regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", regex}};
}

json split(const char* pattern) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern", {{"Regex", pattern}}},
             {"behavior", "Isolated"},
             {"invert", false}},
            byte_level(false)}}};
}

json digits() {
  return {{"type", "Sequence"},
          {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}}};
}

const json& member(const json& object, const char* name) {
  static const json null;
  if (!object.is_object()) return null;
  const auto it = object.find(name);
  return it == object.end() ? null : *it;
}

/// The steps of a pre-tokenizer, one or several.
std::vector<json> steps_of(const json& pre_tokenizer) {
  if (pre_tokenizer.is_null()) return {};
  if (member(pre_tokenizer, "type") != "Sequence") return {pre_tokenizer};
  const json& list = member(pre_tokenizer, "pretokenizers");
  return list.is_array() ? list.get<std::vector<json>>() : std::vector<json>();
}

bool is_true(const json& object, const char* name, bool fallback) {
  const json& value = member(object, name);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

bool is_byte_level_step(const json& step) {
  return member(step, "type") == "ByteLevel" && !is_true(step, "add_prefix_space", true);
}

}  // namespace

bool apply_gguf_pre_tokenizer(std::string_view name, json& tokenizer) {
  // SmolLM's vocabulary has no token with a digit and anything else, so that splitting digits
  // apart, as its tokenizer.json does, changes spaces in front of a digit only; transformers, whose
  // figures for GGUF files ours are compared with, does not.
  if (name == "gpt-2" || name == "gpt2" || name == "smollm" || name == "roberta-bpe") {
    tokenizer["pre_tokenizer"] = byte_level(true);
  } else if (name == "starcoder" || name == "refact" || name == "command-r") {
    tokenizer["pre_tokenizer"] = digits();
  } else if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    tokenizer["pre_tokenizer"] = split(kLlama3);
    tokenizer["model"]["ignore_merges"] = true;
  } else if (name == "qwen2") {
    tokenizer["pre_tokenizer"] = split(kQwen2);
    tokenizer["normalizer"] = {{"type", "NFC"}};
  } else {
    return false;
  }
  return true;
}

bool begins_with_bos(std::string_view pre_tokenizer) {
  return pre_tokenizer == "llama-bpe" || pre_tokenizer == "llama3" || pre_tokenizer == "llama-v3";
}

std::string gguf_pre_tokenizer(const json& tokenizer) {
  const json& normalizer = member(tokenizer, "normalizer");
  const std::vector<json> steps = steps_of(member(tokenizer, "pre_tokenizer"));
  if (steps.empty() || !is_byte_level_step(steps.back())) return {};
  const bool regex = is_true(steps.back(), "use_regex", true);
  if (normalizer.is_null() && regex) {
    if (steps.size() == 1) return "gpt-2";
    if (steps.size() == 2 && member(steps[0], "type") == "Digits" &&
        is_true(steps[0], "individual_digits", false)) {
      return "starcoder";
    }
    return {};
  }
  if (regex || steps.size() != 2 || member(steps[0], "type") != "Split" ||
      member(steps[0], "behavior") != "Isolated") {
    return {};
  }
  const json& pattern = member(member(steps[0], "pattern"), "Regex");
  if (pattern == kLlama3 && normalizer.is_null()) return "llama-bpe";
  if (pattern == kQwen2 && member(normalizer, "type") == "NFC") return "qwen2";
  return {};
}

bool is_byte_level(const json& tokenizer) {
  for (const json& step : steps_of(member(tokenizer, "pre_tokenizer"))) {
    if (member(step, "type") == "ByteLevel") return true;
  }
  return false;
}

}  // namespace kvant::models
