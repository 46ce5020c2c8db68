#include "models/text/bert_text.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kvant/models/utf8.hpp"

namespace kvant::models {
namespace {

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

/// Calls function(code point, its bytes) for each character.
template <class Function>
void each_character(std::string_view text, Function&& function) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = decode_utf8(text, at);
    function(step.code, text.substr(at, step.length));
    at += step.length;
  }
}

bool is_ideograph(char32_t code) {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kRanges = {{{0x3400, 0x4DBF},
                                                                     {0x4E00, 0x9FFF},
                                                                     {0xF900, 0xFAFF},
                                                                     {0x20000, 0x2A6DF},
                                                                     {0x2A700, 0x2B73F},
                                                                     {0x2B740, 0x2B81F},
                                                                     {0x2B920, 0x2CEAF},
                                                                     {0x2F800, 0x2FA1F}}};
  return std::any_of(kRanges.begin(), kRanges.end(), [code](const auto& range) {
    return code >= range.first && code <= range.second;
  });
}

}  // namespace

bool is_white_space(char32_t code) noexcept {
  return (code >= 0x9 && code <= 0xD) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

std::string clean_text(std::string_view text) {
  std::string result;
  each_character(text, [&](char32_t code, std::string_view bytes) {
    const bool blank = code == '\t' || code == '\n' || code == '\r';
    const utf8proc_category_t kind = category(code);
    const bool control = kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
                         kind == UTF8PROC_CATEGORY_CO;
    if ((control && !blank) || code == 0xFFFD) return;
    if (is_white_space(code)) {
      result += ' ';
    } else {
      result.append(bytes);
    }
  });
  return result;
}

std::string space_ideographs(std::string_view text) {
  std::string result;
  each_character(text, [&](char32_t code, std::string_view bytes) {
    const bool apart = is_ideograph(code);
    if (apart) result += ' ';
    result.append(bytes);
    if (apart) result += ' ';
  });
  return result;
}

std::string without_marks(std::string_view text) {
  std::string result;
  each_character(text, [&](char32_t code, std::string_view bytes) {
    if (category(code) != UTF8PROC_CATEGORY_MN) result.append(bytes);
  });
  return result;
}

std::string lowercase(std::string_view text) {
  std::string result;
  each_character(text, [&](char32_t code, std::string_view bytes) {
    if (code == 0x130) {  // the one capital that becomes two code points
      result.append("i\u0307");
      return;
    }
    const auto lower = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
    if (lower == code) {
      result.append(bytes);
    } else {
      result.append(encode_utf8(lower));
    }
  });
  return result;
}

}  // namespace kvant::models
