#pragma once

/// @file
/// glob_match: patterns over full layer names, e.g. "transformer.h.*.mlp.*".

#include <string_view>

#include "kvant/config.hpp"

namespace kvant::io {

/// Whether a name matches a pattern: * stands for any characters (dots too), ? for any one.
[[nodiscard]] KVANT_API bool glob_match(std::string_view pattern, std::string_view name) noexcept;

}  // namespace kvant::io
