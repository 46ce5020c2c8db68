#pragma once

/// @file
/// Errors. The public border validates once and throws kvant::Error; everything below it is
/// noexcept. Messages carry the offending values and, where there is any, advice.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kvant/config.hpp"

namespace kvant {

/// What went wrong, to switch on.
enum class ErrorCode : std::uint8_t {
  ok = 0,
  invalid_argument,  ///< a value outside its domain (a negative threshold, a null pointer)
  shape_mismatch,    ///< two shapes that must agree do not
  unsupported,       ///< well formed, but not something this build can do
  unavailable,       ///< an instruction set or device that is not here
  out_of_range,      ///< an index or size beyond its limit (K > 131071)
  not_finite,        ///< NaN or Inf where the caller asked for a check
  out_of_memory,     ///< an allocation failed; nothing was changed
  invalid_file,      ///< the bytes of a file break the rules of its format
  io,                ///< the operating system refused (missing file, no permission, disk full)
  cancelled,         ///< the caller asked a long job to stop; nothing was changed
  device_failed,  ///< the driver or a kernel reported a failure; results since then are not valid
  foreign_exception,  ///< an exception of the caller's own code (an Executor) that is not an Error
};

/// The name of a code, e.g. "shape_mismatch".
constexpr const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::ok: return "ok";
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::shape_mismatch: return "shape_mismatch";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::out_of_range: return "out_of_range";
    case ErrorCode::not_finite: return "not_finite";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::invalid_file: return "invalid_file";
    case ErrorCode::io: return "io";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::device_failed: return "device_failed";
    case ErrorCode::foreign_exception: return "foreign_exception";
  }
  return "unknown";
}

/// The one exception type of the library.
class KVANT_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// The answer of a noexcept call: ok, or the code of the Error its throwing sibling would raise.
struct [[nodiscard]] Status {
  ErrorCode code = ErrorCode::ok;

  [[nodiscard]] constexpr bool ok() const noexcept { return code == ErrorCode::ok; }
  constexpr explicit operator bool() const noexcept { return ok(); }
};

}  // namespace kvant
