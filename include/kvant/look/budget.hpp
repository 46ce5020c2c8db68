#pragma once

/// @file
/// Budget: how exact or how small a model is to be.

#include <cstdint>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::look {

/// What a budget limits.
enum class BudgetKind : std::uint8_t {
  layer_sqnr,  ///< every layer's weights have at least that signal-to-quantization-noise ratio
  total_sqnr,  ///< the weights of all layers together have
  bytes,       ///< the tensors of the model take at most that many bytes
  bits,        ///< a weight of the layers to choose for takes at most that many on average, scales
               ///< included
};

/// A size, or an accuracy.
struct Budget {
  BudgetKind kind = BudgetKind::layer_sqnr;
  double value = 40;  ///< dB, bytes or bits
};

/// "40dB"; "500MB", "1.5GB", "700 MiB", "1000000" (bytes): decimal units and binary ones;
/// "4.5bits".
/// @param total  decibels are meant for all layers together
/// @throws Error invalid_argument
[[nodiscard]] KVANT_API Budget parse_budget(std::string_view text, bool total = false);

}  // namespace kvant::look
