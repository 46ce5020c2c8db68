#pragma once

/// @file
/// What the layers of a model read, and which method of quantization would be worth how much to
/// them: a report that kvant::models::report_activations fills in, as text, JSON and HTML.
///
///     const auto report = kvant::models::report_activations(context, files, statistics);
///     std::puts(to_text(report).c_str());

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::look {

/// A feature that reached the threshold.
struct OutlierFeature {
  std::int64_t feature = 0;
  double largest = 0;       ///< magnitude
  double mean = 0;          ///< magnitude, over all tokens
  std::int64_t tokens = 0;  ///< in which it reached the threshold
};

/// Elements with least <= |x| < largest.
struct MagnitudeBin {
  double least = 0;
  double largest = 0;
  std::int64_t count = 0;
};

/// What a method would leave of a layer's outputs.
struct MethodEstimate {
  std::string method;  ///< as kvant quantize calls it
  double sqnr_db = 0;  ///< NaN: not known, or it cannot be applied here
};

/// An input of one or more linear layers.
struct ActivationInput {
  std::vector<std::string> layers;  ///< that read it; the first gives it its name
  std::int64_t features = 0;
  std::int64_t outputs = 0;  ///< of all these layers
  std::int64_t tokens = 0;
  std::int64_t outlier_tokens = 0;    ///< with an outlier in any feature
  std::int64_t outlier_features = 0;  ///< that were outliers in any token
  // Magnitudes that this share of all elements does not exceed, to within 12 %.
  double median = 0;
  double p99 = 0;
  double p999 = 0;
  double p9999 = 0;
  double largest = 0;
  std::vector<OutlierFeature> outliers;  ///< the largest of them, descending
  std::vector<MagnitudeBin> histogram;   ///< by powers of two, ascending, without gaps
  std::int64_t zeros = 0;                ///< elements below the first of these
  /// Plain rounding first, then what costs more in this order.
  std::vector<MethodEstimate> int8;
  std::vector<MethodEstimate> int4;
  std::string note;  ///< why something is missing; empty: nothing is
};

/// A model's inputs in the order in which they are read.
struct ActivationReport {
  std::string model;
  std::string source;  ///< the text, or the file of statistics
  double threshold = 6;
  std::int64_t tokens = 0;
  std::int64_t group = 64;  ///< weights that share a scale in the estimates for 4 bits
  std::vector<ActivationInput> inputs;
  std::vector<std::string> warnings;
};

/// A method that costs more is to gain this much, in dB.
inline constexpr double kWorthwhileGain = 1.0;

/// Which of the methods to take: the first that no later one exceeds by kWorthwhileGain.
/// @return its index; methods.size() where nothing is known of any
[[nodiscard]] KVANT_API std::size_t choose_method(const std::vector<MethodEstimate>& methods);

/// Aligned tables: inputs, the largest outlier features, and how many inputs gain from what.
[[nodiscard]] KVANT_API std::string to_text(const ActivationReport& report);
/// One JSON object; what is not known is null.
[[nodiscard]] KVANT_API std::string to_json(const ActivationReport& report);
/// One self-contained page: an overview, a table, and for each input its histogram, its outlier
/// features and the methods.
[[nodiscard]] KVANT_API std::string to_html(const ActivationReport& report);

}  // namespace kvant::look
