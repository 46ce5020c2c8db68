// config.json of a model folder: does it parse, and does it say what the tensors are?

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "io/json/json_tree.hpp"
#include "io/layers/quant_state.hpp"
#include "io/text/quoting.hpp"
#include "look/text_table.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

constexpr std::uint64_t kMaxTokenizerBytes = 256u << 20;

/// The modules that are stored quantized.
struct Quantized {
  std::set<std::string> int8;
  std::set<std::string> four_bit;
};

Quantized find_quantized(const TensorSet& tensors) {
  Quantized found;
  for (const io::SafeTensors& file : tensors.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      const std::string_view name = info.name;
      if (name.ends_with(".weight") && info.dtype == DType::int8) {
        found.int8.emplace(name.substr(0, name.size() - 7));
      }
      const std::size_t at = name.find(std::string(".weight") + io::kQuantStateKey);
      if (at != std::string_view::npos) found.four_bit.emplace(name.substr(0, at));
    }
  }
  return found;
}

class ConfigChecker {
 public:
  ConfigChecker(std::string file, const nlohmann::json& config, VerifyResult& result)
      : file_(std::move(file)), config_(config), result_(result) {}

  void check(const Quantized& stored) {
    const auto it = config_.find("quantization_config");
    const bool absent = it == config_.end() || it->is_null();
    if (absent) {
      const std::size_t count = stored.int8.size() + stored.four_bit.size();
      if (count > 0) {
        error("quantization_config is missing, but " + counted(count, "layer") +
              (count == 1 ? " is" : " are") + " quantized (" + first(stored) +
              "): transformers would not load it");
      }
      return;
    }
    if (!it->is_object()) return error("quantization_config is no object");
    quantization_ = &*it;
    const auto method = it->find("quant_method");
    if (method == it->end() || !method->is_string()) {
      error("quantization_config.quant_method is no string");
    } else if (method->get<std::string>() != "bitsandbytes") {
      add(io::Severity::warning, "quantization_config.quant_method is " +
                                     io::in_quotes(method->get<std::string>()) +
                                     ": kvant knows bitsandbytes only");
      return;
    }
    const bool eight = flag("load_in_8bit", "_load_in_8bit");
    const bool four = flag("load_in_4bit", "_load_in_4bit");
    if (eight && four) error("load_in_8bit and load_in_4bit are both true");
    if (!eight && !four) error("neither load_in_8bit nor load_in_4bit is true");
    compare("load_in_8bit", eight, "8-bit", stored.int8);
    compare("load_in_4bit", four, "4-bit", stored.four_bit);
    check_threshold();
    check_skip(stored);
  }

 private:
  void add(io::Severity severity, const std::string& message) {
    add_finding(result_, severity, "config", file_ + ": " + message);
  }
  void error(const std::string& message) { add(io::Severity::error, message); }

  static std::string first(const Quantized& stored) {
    return io::in_quotes(stored.int8.empty() ? *stored.four_bit.begin() : *stored.int8.begin());
  }

  bool flag(const char* name, const char* old_name) {
    for (const char* key : {name, old_name}) {
      const auto it = quantization_->find(key);
      if (it == quantization_->end()) continue;
      if (it->is_boolean()) return it->get<bool>();
      error(std::string("quantization_config.") + key + " is neither true nor false");
    }
    return false;
  }

  void compare(const char* key, bool said, const char* form, const std::set<std::string>& stored) {
    if (said && stored.empty()) {
      error(std::string(key) + " is true, but no layer is stored in " + form + " form");
    } else if (!said && !stored.empty()) {
      error(counted(stored.size(), "layer") + " stored in " + form + " form (" +
            io::in_quotes(*stored.begin()) + "), but " + key + " is not true");
    }
  }

  void check_threshold() {
    const auto it = quantization_->find("llm_int8_threshold");
    if (it == quantization_->end()) return;
    if (!it->is_number() || !(it->get<double>() >= 0) || !std::isfinite(it->get<double>())) {
      error("llm_int8_threshold is " + it->dump(-1, ' ', true).substr(0, 60) +
            ", no number from 0 up");
    }
  }

  /// The modules that transformers leaves in float: none of them may be quantized.
  void check_skip(const Quantized& stored) {
    const auto it = quantization_->find("llm_int8_skip_modules");
    if (it == quantization_->end() || it->is_null()) return;
    const bool strings =
        it->is_array() && std::all_of(it->begin(), it->end(),
                                      [](const nlohmann::json& name) { return name.is_string(); });
    if (!strings) return error("llm_int8_skip_modules is no list of names");
    for (const nlohmann::json& entry : *it) {
      const auto name = entry.get<std::string>();
      for (const auto* modules : {&stored.int8, &stored.four_bit}) {
        if (modules->contains(name)) {
          error("llm_int8_skip_modules keeps " + io::in_quotes(name) +
                " in float, but it is stored quantized");
        }
      }
    }
  }

  std::string file_;
  const nlohmann::json& config_;
  const nlohmann::json* quantization_ = nullptr;
  VerifyResult& result_;
};

}  // namespace

void verify_config(const std::filesystem::path& folder, const TensorSet& tensors,
                   VerifyResult& result) {
  std::error_code ignored;
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json",
                           "special_tokens_map.json", "tokenizer.json"}) {
    const auto path = folder / name;
    const bool config = std::string_view(name) == "config.json";
    if (!std::filesystem::exists(path, ignored)) {
      if (config) {
        add_finding(result, io::Severity::warning, "config",
                    path.string() + ": missing; transformers needs it");
      }
      continue;
    }
    try {
      const nlohmann::json json = io::read_json_tree(path, kMaxTokenizerBytes);
      if (config && !tensors.empty()) {
        ConfigChecker(path.string(), json, result).check(find_quantized(tensors));
      }
    } catch (const Error& error) {
      const auto* format = dynamic_cast<const io::FormatError*>(&error);
      add_finding(result, io::Severity::error,
                  format != nullptr ? to_string(format->kind()) : to_string(error.code()),
                  error.what());
    }
  }
}

}  // namespace kvant::look
