#pragma once

/// @file
/// Models into GGUF files, for llama.cpp and what reads its format, and back into folders in
/// Hugging Face form. Memory is one tensor as floats, at most, and a few megabytes.
///
///     kvant::models::convert_to_gguf(context, "SmolLM2-135M", "SmolLM2-135M.gguf",
///                                    {.type = "q4_k"});
///     kvant::models::convert_from_gguf(context, "SmolLM2-135M.gguf", "folder");

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/finding.hpp"

namespace kvant::models {

/// What both ways share.
struct GgufJob {
  bool force = false;  ///< replace a result that is there
  /// Set to true from anywhere (a signal handler) to stop: Error cancelled, nothing is left.
  const std::atomic<bool>* cancel = nullptr;
  /// Values that are done, of how many, in bytes of float32, and the tensor just worked on.
  std::function<void(std::uint64_t done, std::uint64_t total, std::string_view tensor)> progress =
      {};
};

/// How convert_to_gguf goes about it.
struct ToGgufOptions {
  /// What linear layers become: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k.
  /// With types of blocks, embeddings and heads become q8_0, with K types q6_k; rows that a block
  /// does not divide become the next larger type that fits; vectors, routers and positions are f32.
  std::string type = "q8_0";
  bool tokenizer = true;  ///< false: the file has no vocabulary
  GgufJob job = {};
};

/// How convert_from_gguf goes about it.
struct FromGgufOptions {
  /// float32, float16 or bfloat16, of all tensors. Nothing: float16 or bfloat16 where all matrices
  /// are stored so, else float32, which loses nothing.
  std::optional<DType> dtype = {};
  std::uint64_t max_shard_size = 5'000'000'000;
  GgufJob job = {};
};

/// What a conversion did.
struct GgufSummary {
  std::string architecture;  ///< general.architecture
  std::size_t tensors = 0;   ///< of the GGUF file
  std::uint64_t bytes = 0;   ///< of all tensors in the result
  std::vector<io::Warning> warnings;
};

/// The types that convert_to_gguf writes, for messages.
[[nodiscard]] KVANT_API std::string gguf_type_names();

/// @param model a folder in Hugging Face form whose linear layers may be stored in any form that
///        kvant reads, or a GGUF file; of the families that llama.cpp has an architecture for
/// @throws Error unsupported: a family or a value of config.json or a tokenizer that GGUF cannot
///         say (the message names it); invalid_argument: no such type; not_finite: a weight that is
///         NaN, infinite, or beyond 65504 where the type has halves; io: the file exists without
///         force; cancelled; as load_model
KVANT_API GgufSummary convert_to_gguf(Context& context, const std::filesystem::path& model,
                                      const std::filesystem::path& output,
                                      const ToGgufOptions& options = {});

/// Writes config.json, tokenizer.json, tokenizer_config.json, generation_config.json and the
/// weights. transformers loads the result.
/// @throws Error unsupported: an architecture, a type of tensor or a value that is not read;
///         not_finite: values beyond float16 where that was asked for; as CheckpointWriter
KVANT_API GgufSummary convert_from_gguf(Context& context, const std::filesystem::path& file,
                                        const std::filesystem::path& folder,
                                        const FromGgufOptions& options = {});

}  // namespace kvant::models
