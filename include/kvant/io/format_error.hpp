#pragma once

/// @file
/// FormatError: what a file reader throws when the bytes of a file break the rules of its format.

#include <cstdint>
#include <string>

#include "kvant/config.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

/// The rule that was broken.
enum class FormatErrorKind : std::uint8_t {
  too_small,       ///< shorter than the smallest file of the format
  too_large,       ///< a header beyond the format's limit
  bad_length,      ///< a length that reaches beyond the file
  utf8,            ///< text that is not UTF-8
  json,            ///< text that is not JSON (or nested too deeply)
  structure,       ///< JSON of another structure than the format's
  unsupported,     ///< well formed, of a kind that this library does not know
  duplicate,       ///< a name that is there twice
  offset,          ///< tensors that overlap, or leave a hole
  overflow,        ///< a size that does not fit 64 bits
  misaligned,      ///< sub-byte elements that do not fill their last byte
  size,            ///< a range whose length is not that of its shape and dtype
  incomplete,      ///< bytes missing at the end of the file
  trailing_bytes,  ///< bytes after the last tensor
  path,            ///< a shard name that is not a plain file name
  missing_shard,   ///< a shard that is not there
  missing_tensor,  ///< a tensor that is not where the index says
  missing_scales,  ///< 8-bit codes without their scales (SCB), or the reverse
  bad_scales,      ///< scales that are negative, not finite, or of another number than the rows
  weight_format,   ///< an order of 8-bit codes other than row by row
};

/// The word for a kind, e.g. "bad_length".
[[nodiscard]] constexpr const char* to_string(FormatErrorKind kind) noexcept {
  switch (kind) {
    case FormatErrorKind::too_small: return "too_small";
    case FormatErrorKind::too_large: return "too_large";
    case FormatErrorKind::bad_length: return "bad_length";
    case FormatErrorKind::utf8: return "utf8";
    case FormatErrorKind::json: return "json";
    case FormatErrorKind::structure: return "structure";
    case FormatErrorKind::unsupported: return "unsupported";
    case FormatErrorKind::duplicate: return "duplicate";
    case FormatErrorKind::offset: return "offset";
    case FormatErrorKind::overflow: return "overflow";
    case FormatErrorKind::misaligned: return "misaligned";
    case FormatErrorKind::size: return "size";
    case FormatErrorKind::incomplete: return "incomplete";
    case FormatErrorKind::trailing_bytes: return "trailing_bytes";
    case FormatErrorKind::path: return "path";
    case FormatErrorKind::missing_shard: return "missing_shard";
    case FormatErrorKind::missing_tensor: return "missing_tensor";
    case FormatErrorKind::missing_scales: return "missing_scales";
    case FormatErrorKind::bad_scales: return "bad_scales";
    case FormatErrorKind::weight_format: return "weight_format";
  }
  return "unknown";
}

/// code() is ErrorCode::unsupported for FormatErrorKind::unsupported, else invalid_file.
class KVANT_API FormatError : public Error {
 public:
  FormatError(FormatErrorKind kind, const std::string& message)
      : Error(
            kind == FormatErrorKind::unsupported ? ErrorCode::unsupported : ErrorCode::invalid_file,
            message),
        kind_(kind) {}

  [[nodiscard]] FormatErrorKind kind() const noexcept { return kind_; }

 private:
  FormatErrorKind kind_;
};

}  // namespace kvant::io
