#include "kvant/models/utf8.hpp"

#include <utility>

namespace kvant::models {
namespace {
constexpr char32_t kReplacement = 0xFFFD;
constexpr std::string_view kReplacementText = "\xEF\xBF\xBD";
}  // namespace

Utf8Step decode_utf8(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return {1, true, false, lead};
  std::size_t length = 0;
  unsigned low = 0x80;   // the second byte's range keeps out overlong forms, surrogates
  unsigned high = 0xBF;  // and code points above U+10FFFF
  char32_t code = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    code = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false, false, kReplacement};
  }
  for (std::size_t k = 1; k < length; ++k) {
    if (at + k == text.size()) return {k, false, true, kReplacement};
    const unsigned next = byte(at + k);
    if (next < (k == 1 ? low : 0x80) || next > (k == 1 ? high : 0xBF)) {
      return {k, false, false, kReplacement};
    }
    code = (code << 6) | (next & 0x3F);
  }
  return {length, true, false, code};
}

std::string encode_utf8(char32_t code) {
  const auto put = [](unsigned value) {
    return static_cast<char>(static_cast<unsigned char>(value));
  };
  const auto c = static_cast<unsigned>(code);
  if (c < 0x80) return {put(c)};
  if (c < 0x800) return {put(0xC0 | (c >> 6)), put(0x80 | (c & 0x3F))};
  if (c < 0x10000) {
    return {put(0xE0 | (c >> 12)), put(0x80 | ((c >> 6) & 0x3F)), put(0x80 | (c & 0x3F))};
  }
  return {put(0xF0 | (c >> 18)), put(0x80 | ((c >> 12) & 0x3F)), put(0x80 | ((c >> 6) & 0x3F)),
          put(0x80 | (c & 0x3F))};
}

std::string repair_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    result += step.valid ? text.substr(i, step.length) : kReplacementText;
    i += step.length;
  }
  return result;
}

std::string Utf8Stream::push(std::string_view bytes) {
  held_ += bytes;
  std::string result;
  std::size_t i = 0;
  while (i < held_.size()) {
    const Utf8Step step = decode_utf8(held_, i);
    if (step.incomplete) break;
    result += step.valid ? std::string_view(held_).substr(i, step.length) : kReplacementText;
    i += step.length;
  }
  held_.erase(0, i);
  return result;
}

std::string Utf8Stream::finish() {
  return repair_utf8(std::exchange(held_, {}));
}

}  // namespace kvant::models
