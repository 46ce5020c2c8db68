#include "io/checkpoint/config_file.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/file/file_bytes.hpp"
#include "io/json/json_sax.hpp"
#include "io/json/json_tree.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

using Json = nlohmann::ordered_json;

/// The double whose shortest text is that of the float: 0.1f is written as 0.1.
double as_written(float value) {
  char text[64];
  for (int digits = 6; digits <= 9; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
    if (std::strtof(text, nullptr) == value) break;
  }
  return std::strtod(text, nullptr);
}

}  // namespace

struct ConfigFile::State {
  Json json;

  [[nodiscard]] std::string text(const char* key) const {
    const auto it = json.find(key);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  }

  /// Where transformers would put it: its keys are sorted. In an unsorted file, at the end.
  void insert(const std::string& key, Json value) {
    auto& members = json.get_ref<Json::object_t&>();
    auto at = members.end();
    if (std::is_sorted(members.begin(), members.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; })) {
      at = std::find_if(members.begin(), members.end(),
                        [&](const auto& member) { return member.first > key; });
    }
    // The members' keys are const: the vector is built anew.
    Json::object_t result;
    for (auto it = members.begin(); it != at; ++it) result.push_back(*it);
    result.push_back({key, std::move(value)});
    for (auto it = at; it != members.end(); ++it) result.push_back(*it);
    json = Json(std::move(result));
  }
};

ConfigFile::ConfigFile(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  const FileBytes file = FileBytes::read(path, kMaxConfigBytes);
  check_json_object(file.bytes(), path.string());
  const char* begin = reinterpret_cast<const char*>(file.bytes().data());
  state_->json = Json::parse(begin, begin + file.bytes().size(), nullptr, false);
  if (!state_->json.is_object()) {
    throw FormatError(FormatErrorKind::json, path.string() + ": not a JSON object");
  }
  const auto it = state_->json.find("quantization_config");
  if (it != state_->json.end() && !it->is_object() && !it->is_null()) {
    throw FormatError(FormatErrorKind::structure,
                      path.string() + ": quantization_config is not an object");
  }
}

ConfigFile::~ConfigFile() = default;

std::string ConfigFile::model_type() const {
  return state_->text("model_type");
}

std::optional<std::uint64_t> ConfigFile::vocabulary() const {
  const auto it = state_->json.find("vocab_size");
  if (it == state_->json.end() || !it->is_number_unsigned()) return std::nullopt;
  return it->get<std::uint64_t>();
}

std::string ConfigFile::dtype() const {
  const std::string now = state_->text("dtype");
  return now.empty() ? state_->text("torch_dtype") : now;
}

std::optional<std::string> ConfigFile::quant_method() const {
  const auto it = state_->json.find("quantization_config");
  if (it == state_->json.end() || it->is_null()) return std::nullopt;
  const auto method = it->find("quant_method");
  if (method == it->end() || !method->is_string()) return "";
  return method->get<std::string>();
}

bool ConfigFile::is_8bit() const {
  // Folders of early versions have no quant_method.
  const std::optional<std::string> method = quant_method();
  if (!method || (*method != "bitsandbytes" && !method->empty())) return false;
  const Json& config = state_->json["quantization_config"];
  const auto flag = config.find("load_in_8bit");
  return flag != config.end() && flag->is_boolean() && flag->get<bool>();
}

void ConfigFile::set_8bit(float threshold, const std::vector<std::string>& skip_modules) {
  clear_quantization();
  Json config;
  config["_load_in_4bit"] = false;
  config["_load_in_8bit"] = true;
  config["bnb_4bit_compute_dtype"] = "float32";
  config["bnb_4bit_quant_storage"] = "uint8";
  config["bnb_4bit_quant_type"] = "fp4";
  config["bnb_4bit_use_double_quant"] = false;
  config["llm_int8_enable_fp32_cpu_offload"] = false;
  config["llm_int8_has_fp16_weight"] = false;
  config["llm_int8_skip_modules"] = skip_modules;
  config["llm_int8_threshold"] = as_written(threshold);
  config["load_in_4bit"] = false;
  config["load_in_8bit"] = true;
  config["quant_method"] = "bitsandbytes";
  state_->insert("quantization_config", std::move(config));
}

void ConfigFile::clear_quantization() {
  state_->json.erase("quantization_config");
}

void ConfigFile::set_dtype(const std::string& name) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (state_->json.contains(key)) state_->json[key] = name;
  }
}

std::string ConfigFile::text() const {
  return state_->json.dump(2, ' ', true) + "\n";
}

}  // namespace kvant::io
