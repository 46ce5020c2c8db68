#pragma once

// Logits that an id is chosen by.

#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "kvant/error.hpp"

namespace kvant::models {

/// @throws Error not_finite where one is NaN
inline void require_numbers(std::span<const float> logits) {
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (!std::isnan(logits[id])) continue;
    throw Error(ErrorCode::not_finite, "the logit of id " + std::to_string(id) +
                                           " is NaN, so no id can be chosen: the weights hold "
                                           "NaN or infinities (kvant verify), or activations left "
                                           "the range of floats");
  }
}

}  // namespace kvant::models
