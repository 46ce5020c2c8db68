#pragma once

// Small JSON files of a model folder (config.json and the like) as trees, after the strict checks
// of json_sax: UTF-8, no NUL, bounded depth, no key twice.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "kvant/config.hpp"

namespace kvant::io {

inline constexpr std::uint64_t kMaxConfigBytes = 16u << 20;

/// @throws FormatError utf8, json, duplicate
KVANT_API nlohmann::json parse_json_tree(std::span<const std::byte> text, const std::string& name);
/// @throws FormatError as above; Error io, invalid_file (larger than limit)
KVANT_API nlohmann::json read_json_tree(const std::filesystem::path& path,
                                        std::uint64_t limit = kMaxConfigBytes);

}  // namespace kvant::io
