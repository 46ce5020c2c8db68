#pragma once

// What bitsandbytes' 8-bit and 4-bit forms share: their section of config.json.

#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// Whether "load_in_8bit" (bits = 8) or "load_in_4bit" of the section is true.
/// @param error is told of values that are neither true nor false
[[nodiscard]] bool loads_in(int bits, const nlohmann::json& section, const ConfigErrors& error);

/// The flag against the layers that are stored so.
void check_bitsandbytes_layers(int bits, const nlohmann::json& section,
                               const std::set<std::string>& layers, const ConfigErrors& error);

}  // namespace kvant::io
