#include "io/json/json_sax.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr std::size_t kMaxShownError = 160;

/// nlohmann's events -> JsonHandler, with depth and duplicates checked on the way.
class SaxAdapter final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit SaxAdapter(JsonHandler& handler) : handler_(handler) {}

  bool null() override { return emit({.event = JsonEvent::null}); }
  bool boolean(bool) override { return emit({.event = JsonEvent::boolean}); }
  bool number_integer(number_integer_t value) override {
    return emit({.event = JsonEvent::other_number, .real = static_cast<double>(value)});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return emit(
        {.event = JsonEvent::unsigned_number, .number = value, .real = static_cast<double>(value)});
  }
  bool number_float(number_float_t value, const string_t&) override {
    return emit({.event = JsonEvent::other_number, .real = value});
  }
  bool string(string_t& value) override {
    return emit({.event = JsonEvent::string, .text = value});
  }
  bool binary(binary_t&) override { return false; }  // JSON has none

  bool start_object(std::size_t) override {
    descend();
    keys_.emplace_back();
    return emit({.event = JsonEvent::start_object});
  }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) {
      throw FormatError(FormatErrorKind::duplicate,
                        handler_.where() + ": " + in_quotes(value) + " is there twice");
    }
    return emit({.event = JsonEvent::key, .text = value});
  }
  bool end_object() override {
    --depth_;
    keys_.pop_back();
    return emit({.event = JsonEvent::end_object});
  }
  bool start_array(std::size_t) override {
    descend();
    return emit({.event = JsonEvent::start_array});
  }
  bool end_array() override {
    --depth_;
    return emit({.event = JsonEvent::end_array});
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // The parser's text repeats the token it stopped in, which may be a megabyte long.
    std::string why = error.what();
    if (why.size() > kMaxShownError) why = why.substr(0, kMaxShownError) + "...";
    throw FormatError(FormatErrorKind::json, handler_.where() + ": not JSON at byte " +
                                                 std::to_string(position) + ": " + why);
  }

 private:
  bool emit(const JsonValue& value) {
    handler_.on_event(value);
    return true;
  }
  void descend() {
    if (++depth_ > kMaxJsonDepth) {
      throw FormatError(FormatErrorKind::json, handler_.where() + ": JSON nested deeper than " +
                                                   std::to_string(kMaxJsonDepth) + " levels");
    }
  }

  JsonHandler& handler_;
  std::size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;  // of each open object; ordered, so never quadratic
};

/// Keeps nothing.
class CheckOnly final : public JsonHandler {
 public:
  explicit CheckOnly(const std::string& name) : name_(name) {}
  void on_event(const JsonValue& /*value*/) override {}
  [[nodiscard]] std::string where() const override { return name_; }

 private:
  const std::string& name_;
};

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

void parse_json_object(std::span<const std::byte> bytes, JsonHandler& handler) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (const std::size_t bad = find_invalid_utf8(text); bad != text.size()) {
    throw FormatError(FormatErrorKind::utf8,
                      handler.where() + ": invalid UTF-8 at byte " + std::to_string(bad));
  }
  // The parser takes NUL for the end of its input and skips a byte-order mark; both are errors.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw FormatError(FormatErrorKind::json, handler.where() + ": NUL at byte " +
                                                 std::to_string(nul) +
                                                 " (only spaces may pad the JSON)");
  }
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (begin < end && is_json_space(text[begin])) ++begin;
  while (end > begin && is_json_space(text[end - 1])) --end;
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw FormatError(FormatErrorKind::json,
                      handler.where() +
                          ": begins with a byte-order mark, which JSON must not; save "
                          "it as UTF-8 without one");
  }
  if (const std::string_view pointer = git_lfs_pointer(text); !pointer.empty()) {
    throw FormatError(FormatErrorKind::json, handler.where() + ": " + std::string(pointer));
  }
  if (begin == end || text[begin] != '{' || text[end - 1] != '}') {
    throw FormatError(FormatErrorKind::json, handler.where() + ": not a JSON object");
  }
  SaxAdapter adapter(handler);
  nlohmann::json::sax_parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                            text.begin() + static_cast<std::ptrdiff_t>(end), &adapter);
}

void check_json_object(std::span<const std::byte> text, const std::string& name) {
  CheckOnly handler(name);
  parse_json_object(text, handler);
}

}  // namespace kvant::io
