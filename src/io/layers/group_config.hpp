#pragma once

// What config.json, or the files that older tools wrote for it, say of weights in groups.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// What stands beside a config.json that has no quantization_config: quantize_config.json of older
/// AutoGPTQ, quant_config.json of older AutoAWQ.
struct OlderGroupConfig {
  std::filesystem::path file;
  nlohmann::json section;   ///< an object
  std::string_view method;  ///< "gptq" or "awq"
};
/// @throws FormatError, Error as read_json_tree
[[nodiscard]] KVANT_API std::optional<OlderGroupConfig> older_group_config(
    const std::filesystem::path& folder);

/// quantization_config of the config.json beside a checkpoint, or what quantize_config.json or
/// quant_config.json hold where it has none; null where there is nothing of the kind.
[[nodiscard]] nlohmann::json group_config(const Checkpoint& checkpoint);

/// A size of groups as configs have it: -1 (one group) or from 1 to 2^31; 0 for anything else.
[[nodiscard]] std::int64_t group_size_in(const nlohmann::json& value);

/// "group_size" of such a section; 0: it does not say, -1: one group.
[[nodiscard]] std::int64_t group_size_of(const nlohmann::json& section);
/// What is wrong with it for any layer. @param method "gptq" or "awq"
void check_group_config(const nlohmann::json& section, std::string_view method,
                        const std::set<std::string>& layers, const ConfigErrors& error);

}  // namespace kvant::io
