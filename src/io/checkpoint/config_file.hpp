#pragma once

// config.json: read, changed in the few places that quantization changes, and written as
// transformers would.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "kvant/io/stored_layer.hpp"

namespace kvant::io {

/// Models of several parts have a section for each ("text_config", "vision_config", ...), which may
/// hold sections again. What is asked for is looked up at the top, then in the sections, that of
/// the language model first.
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
  /// The first of "architectures"; "" where there is none.
  [[nodiscard]] std::string model_class() const;
  /// Of the language model, where there are several parts.
  [[nodiscard]] std::optional<std::uint64_t> vocabulary() const;
  /// "dtype", or "torch_dtype" as it was called before; "" where there is none.
  [[nodiscard]] std::string dtype() const;
  /// How the model is quantized: quant_method of the quantization_config (or compression_config),
  /// "mlx" for the section that MLX writes, "" where a section does not say; nothing where there is
  /// none.
  [[nodiscard]] std::optional<std::string> quant_method() const;
  /// The section quantization_config; null where there is none.
  [[nodiscard]] nlohmann::json quantization() const;
  /// What decides which weights are linear layers.
  [[nodiscard]] ModelHints hints() const {
    return {.model_type = model_type(),
            .vocabulary = vocabulary(),
            .quant_method = quant_method(),
            .model_class = model_class()};
  }

  /// @param section the object quantization_config
  void set_quantization(const nlohmann::ordered_json& section);
  void clear_quantization();
  /// Torch's name, e.g. "float16"; only where the config and its sections speak of a dtype.
  void set_dtype(const std::string& name);

  /// As transformers writes it: two blanks of indentation, ASCII, a newline at the end.
  [[nodiscard]] std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvant::io
