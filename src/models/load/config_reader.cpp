#include "models/load/config_reader.hpp"

#include <cmath>

namespace kvant::models {
namespace {

/// A value in a message: never longer than a line.
std::string shown(const nlohmann::json& value) {
  return value.dump().substr(0, 80);
}

}  // namespace

void ConfigReader::fail(ErrorCode code, const std::string& what) const {
  throw Error(code, file_ + ": " + what);
}

const nlohmann::json* ConfigReader::find(const char* name, const char* alias) const {
  for (const char* key : {name, alias}) {
    if (key == nullptr) continue;
    const auto it = json_.find(key);
    if (it != json_.end() && !it->is_null()) return &*it;
  }
  return nullptr;
}

ConfigReader ConfigReader::object(const char* name) const {
  static const nlohmann::json empty = nlohmann::json::object();
  const nlohmann::json* member = find(name);
  if (member == nullptr) return {empty, file_};
  if (!member->is_object()) invalid(std::string(name) + " is not an object");
  return {*member, file_};
}

bool ConfigReader::is_null(const char* name) const {
  const auto it = json_.find(name);
  return it != json_.end() && it->is_null();
}

void ConfigReader::integer(std::int64_t& value, std::int64_t low, std::int64_t high,
                           const char* name, const char* alias) const {
  const nlohmann::json* member = find(name, alias);
  if (member == nullptr) return;
  const bool fits = member->is_number_unsigned()
                        ? member->get<std::uint64_t>() <= static_cast<std::uint64_t>(high)
                        : member->is_number_integer();
  if (!fits || member->get<std::int64_t>() < low) {
    invalid(std::string(name) + " is " + shown(*member) + ", not an integer from " +
            std::to_string(low) + " to " + std::to_string(high));
  }
  value = member->get<std::int64_t>();
}

void ConfigReader::boolean(bool& value, const char* name) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr) return;
  if (!member->is_boolean()) {
    invalid(std::string(name) + " is " + shown(*member) + ", not true or false");
  }
  value = member->get<bool>();
}

void ConfigReader::number(float& value, const char* name, const char* alias) const {
  const nlohmann::json* member = find(name, alias);
  if (member == nullptr) return;
  const double number = member->is_number() ? member->get<double>() : -1;
  if (!(number >= 0 && std::isfinite(static_cast<float>(number)))) {
    invalid(std::string(name) + " is " + shown(*member) + ", not a number from 0 up");
  }
  value = static_cast<float>(number);
}

void ConfigReader::positive(float& value, const char* name, const char* alias) const {
  number(value, name, alias);
  if (find(name, alias) != nullptr && !(value > 0)) {
    invalid(std::string(name) + " is " + std::to_string(value) + ", not a number above 0");
  }
}

void ConfigReader::ids(std::vector<std::int64_t>& value, const char* name) const {
  if (is_null(name)) value.clear();
  const nlohmann::json* member = find(name);
  if (member == nullptr) return;
  value.clear();
  const auto add = [&](const nlohmann::json& id) {
    const bool whole = id.is_number_integer() &&
                       (!id.is_number_unsigned() ||
                        id.get<std::uint64_t>() <= static_cast<std::uint64_t>(kSizeLimit));
    if (!whole || id.get<std::int64_t>() < -1) {
      invalid(std::string(name) + " is " + shown(*member) + ", not an id or a list of ids");
    }
    if (id.get<std::int64_t>() >= 0) value.push_back(id.get<std::int64_t>());
  };
  if (!member->is_array()) {
    add(*member);
  } else {
    for (const nlohmann::json& id : *member) add(id);
  }
}

std::string ConfigReader::text(const char* name, const char* fallback) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr) return fallback;
  if (!member->is_string()) invalid(std::string(name) + " is not a string");
  return member->get<std::string>();
}

void ConfigReader::require_false(std::initializer_list<const char*> names) const {
  for (const char* name : names) {
    bool value = false;
    boolean(value, name);
    if (value) unsupported(std::string(name) + " is true, which is not supported");
  }
}

}  // namespace kvant::models
