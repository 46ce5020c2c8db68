#pragma once

// Strict JSON from untrusted files, event by event: no tree is ever built, so memory follows what a
// reader keeps. Refused on top of what the parser refuses: invalid UTF-8, NUL anywhere, anything
// but white space around the object (a byte-order mark too), depth above kMaxJsonDepth, and a key
// that is there twice in one object, at whatever level.

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvant::io {

inline constexpr std::size_t kMaxJsonDepth = 128;

enum class JsonEvent : std::uint8_t {
  null,
  boolean,
  unsigned_number,  ///< 0 .. 2^64-1 written without sign, fraction or exponent
  other_number,     ///< every other number
  string,
  key,
  start_object,
  end_object,
  start_array,
  end_array,
};

struct JsonValue {
  JsonEvent event;
  std::uint64_t number = 0;    ///< unsigned_number
  double real = 0;             ///< unsigned_number and other_number
  std::string_view text = {};  ///< string, key
};

class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  /// Called for every event, in document order. Throws to stop.
  virtual void on_event(const JsonValue& value) = 0;
  /// Where the reader is, for messages: `file: tensor "x"`.
  [[nodiscard]] virtual std::string where() const = 0;
};

/// Feeds a JSON object to the handler.
/// @throws FormatError utf8, json, duplicate; whatever the handler throws
void parse_json_object(std::span<const std::byte> text, JsonHandler& handler);

/// The checks alone. @param name of the text, for messages
/// @throws FormatError utf8, json, duplicate
void check_json_object(std::span<const std::byte> text, const std::string& name);

}  // namespace kvant::io
