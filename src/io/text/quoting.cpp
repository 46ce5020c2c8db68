#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

constexpr std::size_t kMaxQuoted = 80;

}  // namespace

std::string in_quotes(std::string_view name) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "\"";
  const bool cut = name.size() > kMaxQuoted;
  std::string_view shown = name.substr(0, kMaxQuoted);
  // A cut in the middle of a character leaves its first bytes behind: drop them.
  if (cut) shown = shown.substr(0, find_invalid_utf8(shown));
  for (const char c : shown) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      result += "\\x";
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    } else {
      result += c;
    }
  }
  result += cut ? "...\" (" + std::to_string(name.size()) + " bytes)" : "\"";
  return result;
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  std::size_t i = 0;
  const std::size_t size = text.size();
  while (i < size) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    std::size_t length = 0;
    unsigned low = 0x80;   // the range of the second byte excludes overlong forms,
    unsigned high = 0xBF;  // surrogates and code points above U+10FFFF
    if (lead >= 0xC2 && lead <= 0xDF) {
      length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      length = 3;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return i;
    }
    if (size - i < length) return i;
    for (std::size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if (byte < (k == 1 ? low : 0x80) || byte > (k == 1 ? high : 0xBF)) return i;
    }
    i += length;
  }
  return size;
}

std::string_view git_lfs_pointer(std::string_view text) noexcept {
  if (!text.starts_with("version https://git-lfs.github.com/spec/")) return {};
  return "is a Git LFS pointer, not the file itself; fetch that with git lfs pull";
}

}  // namespace kvant::io
