#pragma once

/// @file
/// What a quantization did: a float checkpoint and its quantized form compared, layer by layer.
///
///     const auto report = kvant::look::report_checkpoint("model", "model-int8");
///     std::puts(to_text(report).c_str());

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/io/stored_layer.hpp"

namespace kvant::look {

/// One layer before and after.
struct LayerReport {
  io::StoredLayer before;
  io::StoredLayer after;
  ErrorMetrics error;  ///< of the weights, after against before
  double signal = 0;   ///< sum of the squares of the weights before
  double squared_error = 0;
  /// Input features whose weights the quantized checkpoint keeps in half precision; the error above
  /// counts them as kept.
  std::vector<std::int64_t> outlier_columns;
  std::uint64_t bytes_before = 0;  ///< weight and scales, without bias
  std::uint64_t bytes_after = 0;
};

/// Two checkpoints compared, layer by layer.
struct CheckpointReport {
  std::string model;
  std::string quantized;
  std::vector<LayerReport> layers;  ///< the linear layers, in natural order of their names
  ErrorMetrics total;               ///< over the weights of all of them
  std::uint64_t bytes_before = 0;   ///< of all tensors
  std::uint64_t bytes_after = 0;
  std::size_t other_tensors = 0;  ///< beside the linear weights: biases, norms, embeddings
  std::size_t other_equal = 0;    ///< of these, those that are the same in dtype, shape and bytes
  std::vector<io::Warning> warnings;
};

/// How report_checkpoint goes about it.
struct ReportOptions {
  int threads = 0;  ///< 0: all
  /// Bytes of the layers that are done, of how many, and the layer just finished. Called from the
  /// working threads, one call at a time.
  std::function<void(std::uint64_t done, std::uint64_t total, std::string_view layer)> progress =
      {};
};

/// Memory: one block of rows per thread (a few MiB each), whatever the size of the model; the files
/// are mapped, and the pages of a layer are given back when it is done. Two GGUF files are compared
/// matrix by matrix, embeddings too.
/// @throws FormatError for a broken file; Error unsupported: no linear layers, or one GGUF file and
///         something else; shape_mismatch: a
///         layer that the other checkpoint does not have, or has in another shape
[[nodiscard]] KVANT_API CheckpointReport report_checkpoint(const std::filesystem::path& model,
                                                           const std::filesystem::path& quantized,
                                                           const ReportOptions& options = {});

/// An aligned table with totals.
[[nodiscard]] KVANT_API std::string to_text(const CheckpointReport& report);
/// One JSON object; sizes in bytes, NaN and infinities as the strings "nan" and "inf".
[[nodiscard]] KVANT_API std::string to_json(const CheckpointReport& report);
/// A chart of error (SQNR) and size by layer, as a complete SVG file.
[[nodiscard]] KVANT_API std::string to_svg(const CheckpointReport& report);
/// One self-contained page: totals, the chart, and the table, sortable by each column.
[[nodiscard]] KVANT_API std::string to_html(const CheckpointReport& report);

}  // namespace kvant::look
