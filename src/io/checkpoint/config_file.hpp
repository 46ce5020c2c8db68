#pragma once

// config.json: read, changed in the few places that quantization changes, and written as
// transformers would.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace kvant::io {

class ConfigFile {
 public:
  /// @throws FormatError json, utf8, duplicate, structure; Error io
  explicit ConfigFile(const std::filesystem::path& path);
  ~ConfigFile();
  /// A copy that can be changed by itself.
  ConfigFile(const ConfigFile& other);
  ConfigFile& operator=(const ConfigFile&) = delete;

  /// "" where there is none.
  [[nodiscard]] std::string model_type() const;
  [[nodiscard]] std::optional<std::uint64_t> vocabulary() const;
  /// "dtype", or "torch_dtype" as it was called before; "" where there is none.
  [[nodiscard]] std::string dtype() const;
  /// quant_method of the quantization_config; nothing where there is none.
  [[nodiscard]] std::optional<std::string> quant_method() const;

  /// @param section the object quantization_config
  void set_quantization(const nlohmann::ordered_json& section);
  void clear_quantization();
  /// Torch's name, e.g. "float16"; only where the config speaks of a dtype.
  void set_dtype(const std::string& name);

  /// As transformers writes it: two blanks of indentation, ASCII, a newline at the end.
  [[nodiscard]] std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvant::io
