#pragma once

// ConfigReader: typed members of config.json, with errors that name file and key.

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/error.hpp"

namespace kvant::models {

/// Sizes beyond any model, small enough that no product of two of them overflows.
inline constexpr std::int64_t kSizeLimit = std::int64_t{1} << 28;

class ConfigReader {
 public:
  /// Both must outlive it.
  ConfigReader(const nlohmann::json& json, const std::string& file) : json_(json), file_(file) {}

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const;
  [[noreturn]] void invalid(const std::string& what) const { fail(ErrorCode::invalid_file, what); }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail(ErrorCode::unsupported, what);
  }

  /// The member, by its name or its alias; null counts as missing.
  [[nodiscard]] const nlohmann::json* find(const char* name, const char* alias = nullptr) const;
  /// A member that is an object, as a reader of its own; none: an empty one.
  [[nodiscard]] ConfigReader object(const char* name) const;
  [[nodiscard]] bool has(const char* name) const { return find(name) != nullptr; }
  /// The member is there and is null.
  [[nodiscard]] bool is_null(const char* name) const;

  // Each leaves the value as it is where the member is missing.
  void integer(std::int64_t& value, std::int64_t low, std::int64_t high, const char* name,
               const char* alias = nullptr) const;
  void size(std::int64_t& value, const char* name, const char* alias = nullptr) const {
    integer(value, 1, kSizeLimit, name, alias);
  }
  void boolean(bool& value, const char* name) const;
  /// From 0 up, finite in float.
  void number(float& value, const char* name, const char* alias = nullptr) const;
  /// Above 0.
  void positive(float& value, const char* name, const char* alias = nullptr) const;
  /// One id or a list of ids; null: none.
  void ids(std::vector<std::int64_t>& value, const char* name) const;
  [[nodiscard]] std::string text(const char* name, const char* fallback) const;

  /// Refuses true where only false is built.
  void require_false(std::initializer_list<const char*> names) const;

  [[nodiscard]] const nlohmann::json& json() const { return json_; }

 private:
  const nlohmann::json& json_;
  const std::string& file_;
};

}  // namespace kvant::models
