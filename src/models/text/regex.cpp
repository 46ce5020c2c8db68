#include "models/text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include "kvant/error.hpp"

namespace kvant::models {

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_data_free(data);
    pcre2_code_free(code);
  }
};

Regex::Regex(const std::string& pattern) {
  auto compiled = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (compiled->code == nullptr) {
    std::array<PCRE2_UCHAR, 120> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    throw Error(ErrorCode::invalid_file, "pattern " + pattern.substr(0, 80) + ": " +
                                             reinterpret_cast<const char*>(text.data()) + " at " +
                                             std::to_string(offset));
  }
  compiled->data = pcre2_match_data_create_from_pattern(compiled->code, nullptr);
  if (compiled->data == nullptr) throw std::bad_alloc();
  code_ = std::move(compiled);
}

namespace {

bool run(const pcre2_code* code, pcre2_match_data* data, std::string_view text, std::size_t from,
         std::uint32_t options) {
  // NO_UTF_CHECK: the caller has repaired the text once; checking the rest at every match would
  // make splitting quadratic.
  const int count = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                options | PCRE2_NO_UTF_CHECK, data, nullptr);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  if (count < 0) {
    throw Error(ErrorCode::unsupported,
                "the splitting pattern gave up at byte " + std::to_string(from) + " of " +
                    std::to_string(text.size()) + " (PCRE2 error " + std::to_string(count) + ")");
  }
  return true;
}

}  // namespace

Regex::Match Regex::find(std::string_view text, std::size_t from) const {
  if (!run(code_->code, code_->data, text, from, 0)) return {npos, npos};
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(code_->data);
  return {range[0], range[1]};
}

bool Regex::matches_at(std::string_view text, std::size_t at) const {
  return run(code_->code, code_->data, text, at, PCRE2_ANCHORED);
}

}  // namespace kvant::models
