#pragma once

// What is done to text before it is split, as the "normalizer" of tokenizer.json says: Unicode's
// normal forms, Prepend, Replace, Lowercase, StripAccents, Strip, BertNormalizer, Precompiled,
// alone or in a Sequence.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace kvant::models {

class Normalizer {
 public:
  /// @throws Error unsupported for other kinds, invalid_file
  Normalizer(const nlohmann::json& json, const std::string& file);

  /// Valid UTF-8 in, valid UTF-8 out.
  [[nodiscard]] std::string apply(std::string text) const;

 private:
  void add_step(const nlohmann::json& json, const std::string& file);
  void add_bert(const nlohmann::json& json);

  std::vector<std::function<std::string(std::string)>> steps_;
};

}  // namespace kvant::models
