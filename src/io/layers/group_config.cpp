#include "io/layers/group_config.hpp"

#include <system_error>

#include "io/json/json_tree.hpp"
#include "io/layers/packed_groups.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {

std::optional<OlderGroupConfig> older_group_config(const std::filesystem::path& folder) {
  struct Name {
    const char* file;
    std::string_view method;
  };
  for (const Name& name : {Name{"quantize_config.json", "gptq"}, {"quant_config.json", "awq"}}) {
    const std::filesystem::path file = folder / name.file;
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) continue;
    nlohmann::json section = read_json_tree(file);
    if (section.is_object()) return OlderGroupConfig{file, std::move(section), name.method};
  }
  return std::nullopt;
}

nlohmann::json group_config(const Checkpoint& checkpoint) {
  if (checkpoint.files().empty()) return nullptr;
  const auto folder = checkpoint.files().front().parent_path();
  std::error_code ignored;
  if (std::filesystem::exists(folder / "config.json", ignored)) {
    const nlohmann::json config = read_json_tree(folder / "config.json");
    if (config.is_object()) {
      const auto it = config.find("quantization_config");
      if (it != config.end() && it->is_object()) return *it;
    }
  }
  if (auto older = older_group_config(folder)) return std::move(older->section);
  return nullptr;
}

std::int64_t group_size_in(const nlohmann::json& value) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (value.is_number_unsigned()) {
    const auto size = value.get<std::uint64_t>();
    return size <= static_cast<std::uint64_t>(kMost) ? static_cast<std::int64_t>(size) : 0;
  }
  return value.is_number_integer() && value.get<std::int64_t>() == -1 ? -1 : 0;
}

void check_group_config(const nlohmann::json& section, std::string_view method,
                        const std::set<std::string>& layers, const ConfigErrors& error) {
  const auto text = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60);
  };
  for (const char* key : {"bits", "w_bit"}) {
    const auto it = section.find(key);
    if (it == section.end()) continue;
    const bool known = *it == 4 || (method == "gptq" && (*it == 2 || *it == 3 || *it == 8));
    if (!known) {
      error(std::string(key) + " is " + text(*it) + "; " + std::string(method) +
            (method == "gptq" ? " is read with 2, 3, 4 and 8 bits" : " has 4"));
    }
  }
  for (const char* key : {"group_size", "q_group_size"}) {
    const auto it = section.find(key);
    if (it == section.end()) continue;
    if (group_size_in(*it) == 0) {
      error(std::string(key) + " is " + text(*it) + ", neither -1 nor above 0 (and at most 2^31)");
    }
  }
  if (layers.empty()) {
    error("quant_method is " + in_quotes(std::string(method)) +
          ", but no layer is stored in its form (" + std::string(kPackedCodes.substr(1)) + ")");
  }
}

std::int64_t group_size_of(const nlohmann::json& section) {
  if (!section.is_object()) return 0;
  for (const char* key : {"group_size", "q_group_size"}) {
    const auto it = section.find(key);
    if (it == section.end()) continue;
    if (const std::int64_t size = group_size_in(*it); size != 0) return size;
  }
  return 0;
}

}  // namespace kvant::io
