#pragma once

// Models in GGUF files: description, tokenizer and weights in the forms in which a folder has them,
// and the way back.

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kvant/io/finding.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"
#include "models/gguf/architectures.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// By its name.
[[nodiscard]] bool is_gguf(const std::filesystem::path& path);

// ---- from GGUF ----

/// config.json as it would be. @throws Error unsupported (another architecture, values that are not
/// built), invalid_file (a key that is missing or of another type)
[[nodiscard]] nlohmann::json gguf_config(const io::Gguf& file);

/// What config.json does not say: frequencies of rotary positions that are a tensor.
void apply_gguf_frequencies(const io::Gguf& file, Config& config);
/// Turns such frequencies into the numbers that Llama 3 makes them of. @return they were of that
/// kind
bool recognize_llama3(Config& config);

/// tokenizer.json as it would be, complete. @throws Error as above
[[nodiscard]] nlohmann::json gguf_tokenizer(const io::Gguf& file);

/// Some tensor is in blocks that are multiplied as they are; the table of tokens is.
[[nodiscard]] bool holds_blocks(const io::Gguf& file);
[[nodiscard]] bool holds_table_blocks(const io::Gguf& file);

/// Weights by the names of Hugging Face's checkpoints: floats, and blocks as they are.
[[nodiscard]] std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& path,
                                                              const Config& config);

// ---- to GGUF ----

/// How many kinds of tokens have an embedding (BERT): a size of the model, though its key is among
/// the tokenizer's.
inline constexpr const char* kGgufTokenTypeCount = "tokenizer.ggml.token_type_count";

/// What the frequencies of Llama 3's rotary positions are divided by, [dims / 2].
[[nodiscard]] std::vector<float> llama3_divisors(const Rotary& rotary);

/// Writes the keys that describe a model; the architecture must be able to say it.
void write_gguf_config(const Config& config, const GgufArchitecture& architecture,
                       io::GgufWriter& writer);

/// Writes the vocabulary and what belongs to it.
/// @param tokenizer tokenizer.json; @param name of the file, for messages
/// @throws Error unsupported: a tokenizer that GGUF cannot say; invalid_file
void write_gguf_tokenizer(const nlohmann::json& tokenizer, const std::string& name,
                          const Config& config, io::GgufWriter& writer,
                          std::vector<io::Warning>& warnings);

/// From one file to another, as it is: nothing of how text is split is lost.
void copy_gguf_tokenizer(const io::Gguf& file, io::GgufWriter& writer);

}  // namespace kvant::models
