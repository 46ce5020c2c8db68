#pragma once

/// @file
/// What is odd or wrong with files: warnings of readers and writers, findings of a check.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::io {

/// What a warning is about.
enum class WarningKind : std::uint8_t {
  missing_tensor,     ///< the index lists a tensor that its shard does not hold
  unlisted_tensor,    ///< a shard holds a tensor that the index does not list
  total_size,         ///< the index' total_size is neither that of the tensors nor of the files
  unknown_model,      ///< linear layers were told by names and shapes: the model_type is not known
  nothing_quantized,  ///< no layer becomes what was asked for
  unmatched_tensor,   ///< a tensor of one model that the other does not have
  odd_names,          ///< tensors whose names transformers does not look for
  renamed_layers,     ///< layers are kept in float by names that the loaded model may not have
  experts_stay,       ///< weights of fused experts, a large part of the bytes, stay in float
  not_copied,         ///< files or folders of the model that the result does not have
  config,             ///< config.json could not be read, or says something that is not known
};

/// Odd, but not an error. The library never prints: whoever opened the file may.
struct Warning {
  WarningKind kind = WarningKind::missing_tensor;
  std::string text;  ///< one sentence with file or tensor and values
};

/// Whether a checkpoint can still be used as it is.
enum class Severity : std::uint8_t {
  warning,  ///< odd, but the model can be loaded
  error,    ///< a loader will refuse it, or compute nonsense
};

/// One thing that a check found.
struct Finding {
  Severity severity = Severity::error;
  std::string kind;     ///< one word to switch on: "offset", "scale", "codes", "config", ...
  std::string message;  ///< one sentence with file or tensor, values and rule
};

/// Where checks put what they find.
using Findings = std::vector<Finding>;

}  // namespace kvant::io
