#pragma once

// Models in GGUF files: description, tokenizer and weights in the forms in which a folder has them.

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "kvant/io/gguf.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// By its name.
[[nodiscard]] bool is_gguf(const std::filesystem::path& path);

/// config.json as it would be. @throws Error unsupported (another architecture, values that are not
/// built), invalid_file (a key that is missing or of another type)
[[nodiscard]] nlohmann::json gguf_config(const io::Gguf& file);

/// What config.json does not say: frequencies of rotary positions that are a tensor.
void apply_gguf_frequencies(const io::Gguf& file, Config& config);

/// tokenizer.json as it would be. @throws Error as above
[[nodiscard]] nlohmann::json gguf_tokenizer(const io::Gguf& file);

/// Weights by the names of Hugging Face's checkpoints, expanded to floats.
[[nodiscard]] std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& path,
                                                              const Config& config);

}  // namespace kvant::models
