#pragma once

// Numbers in JSON, which has no infinities.

#include <cmath>
#include <nlohmann/json.hpp>

namespace kvant::look {

/// The number, or "nan", "inf", "-inf".
inline nlohmann::ordered_json json_number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

}  // namespace kvant::look
