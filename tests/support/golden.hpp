#pragma once

// Reading golden data: json files and the numbers in them.

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace kvant::test {

inline std::string data_path(const std::string& name) {
  return std::string(KVANT_TEST_DATA) + "/" + name;
}

inline nlohmann::json read_json(const std::string& name) {
  std::ifstream file(data_path(name));
  if (!file) throw std::runtime_error("cannot open " + data_path(name));
  return nlohmann::json::parse(file);
}

/// A folder's config.json.
inline nlohmann::json config_of(const std::filesystem::path& folder) {
  std::ifstream file(folder / "config.json");
  if (!file) throw std::runtime_error("no config.json in " + folder.string());
  return nlohmann::json::parse(file);
}

// A number, or one of the strings "inf", "-inf", "nan", "0x1.8p+1".
inline double number(const nlohmann::json& value) {
  if (value.is_string()) return std::strtod(value.get<std::string>().c_str(), nullptr);
  return value.get<double>();
}

inline float float_number(const nlohmann::json& value) {
  return static_cast<float>(number(value));
}

// One number, an array of them or an array of arrays, in one row.
inline std::vector<float> floats(const nlohmann::json& value) {
  if (!value.is_array()) return {float_number(value)};
  std::vector<float> result;
  for (const nlohmann::json& element : value) {
    const std::vector<float> part = floats(element);
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

inline std::vector<int> ints(const nlohmann::json& value) {
  std::vector<int> result;
  for (const float element : floats(value)) result.push_back(static_cast<int>(element));
  return result;
}

}  // namespace kvant::test
