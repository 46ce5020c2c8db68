#include "io/checkpoint/config_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/file/file_bytes.hpp"
#include "io/json/json_sax.hpp"
#include "io/json/json_tree.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

using Json = nlohmann::ordered_json;

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

ConfigFile::ConfigFile(const ConfigFile& other) : state_(std::make_unique<State>(*other.state_)) {}

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

void ConfigFile::set_quantization(const nlohmann::ordered_json& section) {
  clear_quantization();
  state_->insert("quantization_config", section);
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
