#pragma once

// config.json: read, changed in the few places that quantization changes, and written as
// transformers would.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvant::io {

class ConfigFile {
 public:
  /// @throws FormatError json, utf8, duplicate, structure; Error io
  explicit ConfigFile(const std::filesystem::path& path);
  ~ConfigFile();

  /// "" where there is none.
  [[nodiscard]] std::string model_type() const;
  [[nodiscard]] std::optional<std::uint64_t> vocabulary() const;
  /// "dtype", or "torch_dtype" as it was called before; "" where there is none.
  [[nodiscard]] std::string dtype() const;
  /// quant_method of the quantization_config; nothing where there is none.
  [[nodiscard]] std::optional<std::string> quant_method() const;
  /// Whether it is bitsandbytes' 8-bit form.
  [[nodiscard]] bool is_8bit() const;

  void set_8bit(float threshold, const std::vector<std::string>& skip_modules);
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
