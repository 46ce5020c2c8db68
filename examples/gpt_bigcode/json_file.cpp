#include "json_file.hpp"

#include <fstream>
#include <kvant/error.hpp>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

namespace gpt_bigcode {
namespace {

constexpr int kMaxDepth = 64;

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw kvant::Error(kvant::ErrorCode::io, path.string() + ": no such file");
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw kvant::Error(kvant::ErrorCode::io, path.string() + ": is not a regular file");
  }
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (!error && size > limit) {
    throw kvant::Error(kvant::ErrorCode::invalid_file, path.string() + ": " + std::to_string(size) +
                                                           " bytes, more than the limit of " +
                                                           std::to_string(limit));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(error ? 0 : static_cast<std::size_t>(size), '\0');
  if (!file || error || !file.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    throw kvant::Error(kvant::ErrorCode::io, path.string() + ": cannot be read");
  }
  return text;
}

nlohmann::json read_json_object(const std::filesystem::path& path, std::uint64_t limit) {
  const std::string text = read_text_file(path, limit);
  const auto refuse = [&path](const std::string& why) {
    throw kvant::Error(kvant::ErrorCode::invalid_file, path.string() + ": " + why);
  };
  // The parser takes NUL for the end of its input, and skips a byte-order mark.
  if (text.find('\0') != std::string::npos) refuse("not JSON: holds a NUL byte");
  std::size_t begin = 0;
  while (begin < text.size() && is_json_space(text[begin])) ++begin;
  if (begin == text.size() || text[begin] != '{') refuse("not a JSON object");

  std::vector<std::set<std::string>> keys;  // of each open object
  const auto check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxDepth) refuse("JSON nested deeper than " + std::to_string(kMaxDepth));
    if (event == Event::object_start) {
      keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      refuse("the key \"" + value.get<std::string>().substr(0, 80) + "\" stands twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    const std::string why = error.what();
    refuse("not JSON: " + (why.size() > 160 ? why.substr(0, 160) + "..." : why));
  }
  return {};
}

}  // namespace gpt_bigcode
