#include "models/text/charsmap.hpp"

#include <utf8proc.h>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/models/utf8.hpp"

namespace kvant::models {
namespace {

constexpr std::size_t kUnitBytes = 4;
constexpr std::size_t kLongestGrapheme = 5;  // that is looked up as a whole

std::uint32_t unit_at(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = kUnitBytes; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

// A unit of darts-clone's trie: bits 0 to 7 are the label by which it is reached, bit 8 says that
// a leaf follows, bits 10 to 30 (shifted by 8 where bit 9 is set) lead on; a leaf has bit 31, and
// its value in the others.
std::uint32_t label(std::uint32_t unit) {
  return unit & (0x80000000u | 0xFFu);
}
bool has_leaf(std::uint32_t unit) {
  return (unit >> 8 & 1u) != 0;
}
std::uint32_t offset(std::uint32_t unit) {
  return unit >> 10 << ((unit & 0x200u) >> 6);
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& file) {
  if (bytes.empty()) return;
  const auto invalid = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_file, file + ": precompiled_charsmap " + what);
  };
  if (bytes.size() < kUnitBytes) {
    invalid("has " + std::to_string(bytes.size()) + " bytes, and no room for its trie's size");
  }
  const std::uint64_t size = unit_at(bytes, 0);
  bytes.remove_prefix(kUnitBytes);
  if (size > bytes.size() || size % kUnitBytes != 0) {
    invalid("says that its trie has " + std::to_string(size) + " bytes, of the " +
            std::to_string(bytes.size()) + " that follow");
  }
  for (std::size_t at = 0; at < size; at += kUnitBytes) trie_.push_back(unit_at(bytes, at));
  texts_ = bytes.substr(static_cast<std::size_t>(size));
  if (io::find_invalid_utf8(texts_) != texts_.size()) invalid("holds texts that are not UTF-8");
}

std::optional<std::string_view> Charsmap::find(std::string_view key) const {
  // Indices come from the file: one that leads out of the trie leads nowhere.
  if (trie_.empty()) return std::nullopt;
  std::size_t node = offset(trie_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    node ^= byte;
    if (node >= trie_.size() || label(trie_[node]) != byte) break;
    const std::uint32_t unit = trie_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= trie_.size()) break;
    const std::size_t begin = trie_[node] & 0x7FFFFFFFu;
    const bool inside =
        begin < texts_.size() && (static_cast<unsigned char>(texts_[begin]) & 0xC0) != 0x80;
    if (!inside) break;
    const std::string_view rest = std::string_view(texts_).substr(begin);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

std::string Charsmap::apply(std::string_view text) const {
  if (trie_.empty()) return std::string(text);
  std::string result;
  result.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    utf8proc_int32_t state = 0;
    Utf8Step step = decode_utf8(text, begin);
    std::size_t end = begin + step.length;
    while (end < text.size()) {
      const Utf8Step next = decode_utf8(text, end);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(step.code),
                                           static_cast<utf8proc_int32_t>(next.code), &state)) {
        break;
      }
      end += next.length;
      step = next;
    }
    const std::string_view grapheme = text.substr(begin, end - begin);
    begin = end;
    if (grapheme.size() <= kLongestGrapheme) {
      if (const auto replaced = find(grapheme)) {
        result.append(*replaced);
        continue;
      }
    }
    for (std::size_t at = 0; at < grapheme.size();) {
      const std::string_view character = grapheme.substr(at, decode_utf8(grapheme, at).length);
      result.append(find(character).value_or(character));
      at += character.size();
    }
  }
  return result;
}

}  // namespace kvant::models
