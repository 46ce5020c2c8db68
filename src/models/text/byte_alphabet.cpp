#include "models/text/byte_alphabet.hpp"

#include <unordered_map>

#include "kvant/models/utf8.hpp"

namespace kvant::models {

const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> table = [] {
    std::array<char32_t, 256> result{};
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      result[b] = printable ? static_cast<char32_t>(b) : next++;
    }
    return result;
  }();
  return table;
}

std::string to_alphabet(std::string_view bytes) {
  std::string result;
  for (const char c : bytes) result += encode_utf8(byte_alphabet()[static_cast<unsigned char>(c)]);
  return result;
}

std::string from_alphabet(const std::string& token) {
  static const std::unordered_map<char32_t, char> bytes = [] {
    std::unordered_map<char32_t, char> result;
    for (unsigned b = 0; b < 256; ++b) {
      result[byte_alphabet()[b]] = static_cast<char>(static_cast<unsigned char>(b));
    }
    return result;
  }();
  std::string result;
  for (std::size_t i = 0; i < token.size();) {
    const Utf8Step step = decode_utf8(token, i);
    const auto it = bytes.find(step.code);
    if (!step.valid || it == bytes.end()) return token;
    result += it->second;
    i += step.length;
  }
  return result;
}

}  // namespace kvant::models
