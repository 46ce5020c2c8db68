#pragma once

/// @file
/// Everything that can be wrong with a checkpoint, listed: not only the first thing.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/finding.hpp"

namespace kvant::look {

/// Everything that was found, and what was looked at.
struct VerifyResult {
  std::string path;
  io::Findings findings;  ///< file by file, tensor by tensor in the order of their bytes
  std::size_t files = 0;  ///< files of tensors that could be opened
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;  ///< of tensors, all of them looked at

  [[nodiscard]] std::size_t count(io::Severity severity) const noexcept {
    std::size_t result = 0;
    for (const io::Finding& finding : findings) result += finding.severity == severity ? 1u : 0u;
    return result;
  }
  [[nodiscard]] bool ok() const noexcept { return count(io::Severity::error) == 0; }
};

/// Checks a folder, a .safetensors file, an index, or a GGUF file.
///
/// Of each file every rule of the format (FormatErrorKind); of the index that it agrees with its
/// shards. Of the tensors: NaN and infinities in floating-point tensors (warnings with counts).
/// Of bitsandbytes' 8-bit layers: SCB is F32, one for each output, finite and not negative;
/// weight_format is one byte 0; no int8 weight without SCB and no SCB without one; codes of -128
/// (a warning: the format never writes it); kvant's kept outlier columns are ascending, in range
/// and have their weights. Of its 4-bit layers: the description can be read, codes, absmax and
/// tables have the sizes it says and are finite. Of config.json and the other JSON files: that they
/// parse, that quantization_config has the right types and says what the tensors are. Of a GGUF
/// file every rule of the container, values that are not finite (of blocks: an error, a scale is
/// broken), an architecture, and a vocabulary that is as large as the table of embeddings. A
/// checkpoint that is broken is a result, not an exception.
/// @throws Error io: the path does not exist or cannot be read at all
[[nodiscard]] KVANT_API VerifyResult verify_checkpoint(const std::filesystem::path& path);

/// One line for each finding and one for the whole.
[[nodiscard]] KVANT_API std::string to_text(const VerifyResult& result);
/// The same for scripts.
[[nodiscard]] KVANT_API std::string to_json(const VerifyResult& result);

}  // namespace kvant::look
