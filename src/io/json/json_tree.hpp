#pragma once

// Small JSON files of a model folder (config.json and the like) as trees, after the strict checks
// of json_sax: UTF-8, no NUL, bounded depth, no key twice.
//
// Python writes numbers that JSON does not have: NaN, Infinity, -Infinity. They are read as strings
// that no file can hold otherwise, and python_text() writes them back as they were.

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
/// The same with members in the order of the file.
nlohmann::ordered_json parse_ordered_tree(std::span<const std::byte> text, const std::string& name);
/// @throws FormatError as above; Error io, invalid_file (larger than limit)
KVANT_API nlohmann::json read_json_tree(const std::filesystem::path& path,
                                        std::uint64_t limit = kMaxConfigBytes);

/// Two blanks of indentation, ASCII, NaN and the infinities as Python writes them.
std::string python_text(const nlohmann::ordered_json& json);

}  // namespace kvant::io
