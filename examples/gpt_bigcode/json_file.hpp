#pragma once

// JSON files of a model folder, as trees: config.json and tokenizer.json come from strangers, so
// size and depth are bounded, a key that stands twice is refused, and every wrong type is an error
// that names file and key.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace gpt_bigcode {

/// All bytes of a regular file.
/// @throws kvant::Error io; invalid_file above `limit` bytes
std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit = 256u << 20);

/// @throws kvant::Error io, invalid_file
nlohmann::json read_json_object(const std::filesystem::path& path,
                                std::uint64_t limit = 256u << 20);

}  // namespace gpt_bigcode
