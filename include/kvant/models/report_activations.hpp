#pragma once

/// @file
/// What the layers of a model read, from a file of statistics, as a report for people.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/look/activations.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/statistics.hpp"

namespace kvant::models {

/// How report_activations goes about it.
struct ReportActivationsOptions {
  std::int64_t group = 64;    ///< weights that share a scale, in the estimates for 4 bits
  std::size_t outliers = 16;  ///< features that are listed for each input, the largest
  /// Called before each input; may be empty.
  std::function<void(std::int64_t done, std::int64_t total, const std::string& layer)> progress =
      {};
  const std::atomic<bool>* cancel = nullptr;  ///< set from anywhere to stop: Error cancelled
};

/// Distributions of all inputs, and what methods::estimate_methods says of the layers that read
/// them. Layers that the statistics lack, or that no token reached, are listed with a note. Memory:
/// the layers of one input in float, with its second moments.
/// @param path a folder or GGUF file; layers that are quantized are expanded
/// @throws Error as load_model and StatisticsFile; invalid_file: statistics of another model;
///         invalid_argument (group), cancelled
[[nodiscard]] KVANT_API look::ActivationReport report_activations(
    Context& context, const std::filesystem::path& path, const Config& config,
    const StatisticsFile& statistics, const ReportActivationsOptions& options = {});

}  // namespace kvant::models
