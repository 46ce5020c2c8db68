#pragma once

// One layer of bitsandbytes' 8-bit form: the names of its tensors, and reading it whole. What does
// not fit throws. (bitsandbytes_int8.cpp lists faults instead, and writes.)

#include <cstdint>
#include <string>
#include <vector>

#include "io/layers/stored_format.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/int8_checkpoint.hpp"

namespace kvant::io {

/// How the names of a layer's tensors end.
namespace int8_names {
inline constexpr const char* kScales = ".SCB";
inline constexpr const char* kFormat = ".weight_format";
inline constexpr const char* kKeptColumns = ".kvant_keep_columns";
inline constexpr const char* kKeptWeights = ".kvant_keep_weights";
}  // namespace int8_names

/// @throws FormatError
[[noreturn]] void refuse_int8(FormatErrorKind kind, const std::string& layer,
                              const std::string& what);

/// The columns whose weights are kept; none where nothing is kept.
/// @throws FormatError structure: columns or weights that do not fit each other or the layer
std::vector<std::int64_t> check_kept_columns(const FindTensor& find, const std::string& layer,
                                             std::uint64_t outputs, std::uint64_t inputs);

}  // namespace kvant::io
