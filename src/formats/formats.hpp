#pragma once

// The rules of all formats, each defined in the file of its name.

#include "formats/rules.hpp"

namespace kvant::detail {

extern const FormatRules kFloat32Rules;
extern const FormatRules kFloat16Rules;
extern const FormatRules kBfloat16Rules;
extern const FormatRules kInt8RowRules;
extern const FormatRules kInt8GroupRules;

}  // namespace kvant::detail
