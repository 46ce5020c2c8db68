#pragma once

// What each rank has read, holds and has sent, for --json.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "kvant/ranks.hpp"

namespace kvant::program {

/// A list of all ranks' figures, on every rank; all call it.
/// @param bytes_read of the model's tensors, by this rank; @param weight_bytes that it holds;
/// @param device_bytes of these on its device
[[nodiscard]] nlohmann::ordered_json rank_figures(Ranks& ranks, std::int64_t bytes_read,
                                                  std::size_t weight_bytes,
                                                  std::uint64_t device_bytes);

}  // namespace kvant::program
