#include "io/checkpoint/config_file.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "io/file/file_bytes.hpp"
#include "io/json/json_tree.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

using Json = nlohmann::ordered_json;

/// More are not looked at; a model has a handful.
constexpr std::size_t kMaxSections = 256;
constexpr std::array kLanguageSections = {"text_config", "llm_config", "language_config",
                                          "thinker_config", "decoder"};
constexpr std::array kDTypeKeys = {"dtype", "torch_dtype"};
constexpr std::array kQuantizationSections = {"quantization_config", "compression_config",
                                              "quantization"};

bool is_quantization(std::string_view key) {
  return std::find(kQuantizationSections.begin(), kQuantizationSections.end(), key) !=
         kQuantizationSections.end();
}

std::string text_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

}  // namespace

struct ConfigFile::State {
  Json json;

  /// The config itself and all sections in it, the language model's before its neighbours.
  [[nodiscard]] std::vector<Json*> sections() {
    std::vector<Json*> found = {&json};
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (const char* key : kLanguageSections) add_section(found, *found[i], key);
      for (auto& [key, value] : found[i]->items()) {
        if (key.ends_with("_config") && !is_quantization(key)) add_section(found, *found[i], key);
      }
    }
    return found;
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

 private:
  static void add_section(std::vector<Json*>& found, Json& parent, const std::string& key) {
    const auto it = parent.find(key);
    if (it == parent.end() || !it->is_object() || found.size() >= kMaxSections) return;
    if (std::find(found.begin(), found.end(), &*it) == found.end()) found.push_back(&*it);
  }
};

ConfigFile::ConfigFile(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  const FileBytes file = FileBytes::read(path, kMaxConfigBytes);
  state_->json = parse_ordered_tree(file.bytes(), path.string());
  for (const Json* section : state_->sections()) {
    for (const char* key : kQuantizationSections) {
      const auto it = section->find(key);
      if (it == section->end() || it->is_object() || it->is_null()) continue;
      if (std::string_view(key) == "quantization") continue;  // anyone may call something so
      throw FormatError(FormatErrorKind::structure,
                        path.string() + ": " + key + " is not an object");
    }
  }
}

ConfigFile::ConfigFile(const ConfigFile& other) : state_(std::make_unique<State>(*other.state_)) {}

ConfigFile::~ConfigFile() = default;

std::string ConfigFile::model_type() const {
  return text_of(state_->json, "model_type");
}

std::string ConfigFile::model_class() const {
  const auto it = state_->json.find("architectures");
  if (it == state_->json.end() || !it->is_array() || it->empty()) return {};
  return it->front().is_string() ? it->front().get<std::string>() : std::string();
}

std::optional<std::uint64_t> ConfigFile::vocabulary() const {
  for (const Json* section : state_->sections()) {
    const auto it = section->find("vocab_size");
    if (it != section->end() && it->is_number_unsigned()) return it->get<std::uint64_t>();
  }
  return std::nullopt;
}

std::string ConfigFile::dtype() const {
  for (const Json* section : state_->sections()) {
    for (const char* key : kDTypeKeys) {
      if (std::string name = text_of(*section, key); !name.empty()) return name;
    }
  }
  return {};
}

std::optional<std::string> ConfigFile::quant_method() const {
  for (const Json* section : state_->sections()) {
    for (const char* key : kQuantizationSections) {
      const auto it = section->find(key);
      if (it == section->end() || !it->is_object()) continue;
      const std::string method = text_of(*it, "quant_method");
      if (!method.empty()) return method;
      // MLX says bits and group_size, and no method.
      if (std::string_view(key) == "quantization") {
        if (it->contains("bits") || it->contains("group_size")) return "mlx";
        continue;
      }
      return std::string_view(key) == "compression_config" ? "compressed-tensors" : "";
    }
  }
  return std::nullopt;
}

nlohmann::json ConfigFile::quantization() const {
  for (const Json* section : state_->sections()) {
    const auto it = section->find("quantization_config");
    if (it != section->end() && it->is_object()) return nlohmann::json(*it);
  }
  return nullptr;
}

void ConfigFile::set_quantization(const nlohmann::ordered_json& section) {
  clear_quantization();
  state_->insert("quantization_config", section);
}

void ConfigFile::clear_quantization() {
  // Erasing moves the neighbours of what is erased: the sections are looked up again.
  for (bool found = true; found;) {
    found = false;
    for (Json* section : state_->sections()) {
      if (section->erase("quantization_config") == 0) continue;
      found = true;
      break;
    }
  }
}

void ConfigFile::set_dtype(const std::string& name) {
  for (Json* section : state_->sections()) {
    for (const char* key : kDTypeKeys) {
      if (section->contains(key)) (*section)[key] = name;
    }
  }
}

std::string ConfigFile::text() const {
  return python_text(state_->json);
}

}  // namespace kvant::io
