#include "models/text/normalizer.hpp"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/base64.hpp"
#include "models/text/bert_text.hpp"
#include "models/text/charsmap.hpp"
#include "models/text/pattern.hpp"

namespace kvant::models {
namespace {

std::string map_text(const std::string& text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const utf8proc_ssize_t length = utf8proc_map(bytes, static_cast<utf8proc_ssize_t>(text.size()),
                                               &mapped, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (length < 0) {
    throw Error(ErrorCode::unsupported,
                std::string("a text could not be normalized: ") + utf8proc_errmsg(length));
  }
  return {reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length)};
}

/// Without white space at the ends.
std::string stripped(std::string_view text, bool left, bool right) {
  std::size_t begin = 0;
  while (left && begin < text.size() && is_white_space(decode_utf8(text, begin).code)) {
    begin += decode_utf8(text, begin).length;
  }
  std::size_t end = begin;
  for (std::size_t at = begin; at < text.size();) {
    const Utf8Step step = decode_utf8(text, at);
    at += step.length;
    if (!right || !is_white_space(step.code)) end = at;
  }
  return std::string(text.substr(begin, end - begin));
}

}  // namespace

Normalizer::Normalizer(const nlohmann::json& json, const std::string& file) {
  if (json.is_null()) return;
  add_step(json, file);
}

void Normalizer::add_step(const nlohmann::json& json, const std::string& file) {
  const std::string type = json.is_object() ? json.value("type", "") : "";
  const auto form = [&](int options) {
    steps_.emplace_back(
        [options](const std::string& text) { return map_text(text, UTF8PROC_STABLE | options); });
  };
  if (type == "Sequence") {
    const auto list = json.find("normalizers");
    if (list == json.end() || !list->is_array()) {
      throw Error(ErrorCode::invalid_file, file + ": normalizer: normalizers is not an array");
    }
    for (const nlohmann::json& step : *list) {
      if (step.is_object() && step.value("type", "") == "Sequence") {
        throw Error(ErrorCode::unsupported, file + ": a Sequence of normalizers inside another");
      }
      add_step(step, file);
    }
  } else if (type == "NFC") {
    form(UTF8PROC_COMPOSE);
  } else if (type == "NFD") {
    form(UTF8PROC_DECOMPOSE);
  } else if (type == "NFKC") {
    form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  } else if (type == "NFKD") {
    form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  } else if (type == "Prepend") {
    steps_.emplace_back([start = json.value("prepend", "")](std::string text) {
      return text.empty() ? std::move(text) : start + text;
    });
  } else if (type == "Replace") {
    const Regex pattern(pattern_of(json, file));
    steps_.emplace_back([pattern, to = json.value("content", "")](const std::string& text) {
      std::string result;
      std::size_t done = 0;
      while (done < text.size()) {
        const Regex::Match match = pattern.find(text, done);
        if (match.begin == Regex::npos || match.end == match.begin) break;
        result.append(text, done, match.begin - done).append(to);
        done = match.end;
      }
      return result.append(text, done, std::string::npos);
    });
  } else if (type == "Lowercase") {
    steps_.emplace_back(lowercase);
  } else if (type == "StripAccents") {
    steps_.emplace_back(without_marks);
  } else if (type == "Strip") {
    steps_.emplace_back([left = json.value("strip_left", true),
                         right = json.value("strip_right", true)](const std::string& text) {
      return stripped(text, left, right);
    });
  } else if (type == "BertNormalizer") {
    add_bert(json);
  } else if (type == "Precompiled") {
    const auto bytes = from_base64(json.value("precompiled_charsmap", ""));
    if (!bytes) {
      throw Error(ErrorCode::invalid_file,
                  file + ": normalizer: precompiled_charsmap is not base64");
    }
    steps_.emplace_back([map = std::make_shared<const Charsmap>(*bytes, file)](
                            const std::string& text) { return map->apply(text); });
  } else {
    throw Error(ErrorCode::unsupported,
                file + ": normalizer of type \"" + type.substr(0, 80) +
                    "\": only NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, StripAccents, "
                    "Strip, BertNormalizer, Precompiled and Sequence are known here");
  }
}

void Normalizer::add_bert(const nlohmann::json& json) {
  const bool lower = json.value("lowercase", true);
  const auto accents = json.find("strip_accents");
  const bool given = accents != json.end() && !accents->is_null();
  if (json.value("clean_text", true)) steps_.emplace_back(clean_text);
  if (json.value("handle_chinese_chars", true)) steps_.emplace_back(space_ideographs);
  if (given ? accents->get<bool>() : lower) {
    steps_.emplace_back([](const std::string& text) {
      return without_marks(map_text(text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE));
    });
  }
  if (lower) steps_.emplace_back(lowercase);
}

std::string Normalizer::apply(std::string text) const {
  for (const auto& step : steps_) text = step(std::move(text));
  return text;
}

}  // namespace kvant::models
