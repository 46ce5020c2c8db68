#include "io/json/json_tree.hpp"

#include "io/file/file_bytes.hpp"
#include "io/json/json_sax.hpp"

namespace kvant::io {
nlohmann::json parse_json_tree(std::span<const std::byte> text, const std::string& name) {
  check_json_object(text, name);
  const auto* begin = reinterpret_cast<const char*>(text.data());
  return nlohmann::json::parse(begin, begin + text.size());
}

nlohmann::json read_json_tree(const std::filesystem::path& path, std::uint64_t limit) {
  const FileBytes file = FileBytes::read(path, limit);
  return parse_json_tree(file.bytes(), path.string());
}

}  // namespace kvant::io
