#pragma once

// A GGUF file's metadata by the names of its architecture.

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "kvant/error.hpp"
#include "kvant/io/gguf.hpp"
#include "models/gguf/architectures.hpp"

namespace kvant::models {

/// Typed values of the metadata, with errors that name file and key. Names without a dot in front
/// are the architecture's: "context_length" is "llama.context_length".
class Metadata {
 public:
  explicit Metadata(const io::Gguf& file) : file_(file), architecture_(find_architecture()) {}

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const {
    throw Error(code, file_.name() + ": " + what);
  }
  [[nodiscard]] const std::string& architecture() const { return architecture_; }
  [[nodiscard]] bool is(std::string_view architecture) const {
    return architecture_ == architecture;
  }
  [[nodiscard]] std::string key(const char* name) const { return architecture_ + "." + name; }
  [[nodiscard]] bool has(const char* name) const { return file_.has(key(name)); }
  [[nodiscard]] const io::Gguf& file() const { return file_; }

  [[nodiscard]] std::int64_t integer(const char* name) const {
    const auto value = file_.integer(key(name));
    if (!value) fail(ErrorCode::invalid_file, key(name) + " is missing or no integer");
    return *value;
  }
  [[nodiscard]] std::int64_t integer(const char* name, std::int64_t fallback) const {
    return has(name) ? integer(name) : fallback;
  }
  void copy_integer(nlohmann::json& to, const char* member, const std::string& from) const {
    if (!file_.has(from)) return;
    const auto value = file_.integer(from);
    if (!value) fail(ErrorCode::invalid_file, from + " is no integer");
    to[member] = *value;
  }
  void copy_number(nlohmann::json& to, const char* member, const std::string& from) const {
    if (!file_.has(from)) return;
    const auto value = file_.number(from);
    if (!value || !std::isfinite(*value)) fail(ErrorCode::invalid_file, from + " is no number");
    to[member] = *value;
  }
  /// @return a number that there may be; nothing: there is none
  [[nodiscard]] std::optional<double> number(const char* name) const {
    nlohmann::json found;
    copy_number(found, name, key(name));
    return found.is_null() ? std::nullopt : std::optional(found[name].get<double>());
  }
  /// Refuses values that would change the results and are not built; 0 is none.
  void require_absent(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (!has(name) || file_.number(key(name)) == 0.0) continue;
      fail(ErrorCode::unsupported, key(name) + " is set, which is not supported");
    }
  }

 private:
  [[nodiscard]] std::string find_architecture() const {
    const auto name = file_.text("general.architecture");
    if (!name) fail(ErrorCode::invalid_file, "general.architecture is missing");
    for (const GgufArchitecture& each : gguf_architectures()) {
      if (each.name == *name) return std::string(*name);
    }
    fail(ErrorCode::unsupported,
         "the architecture \"" + std::string(name->substr(0, 60)) +
             "\" is not one of those that are run from GGUF: " + gguf_architecture_names());
  }

  const io::Gguf& file_;
  std::string architecture_;
};

/// config.json's rope_parameters.
[[nodiscard]] nlohmann::json gguf_rotary(const Metadata& metadata, std::int64_t head_dim);

}  // namespace kvant::models
