#pragma once

/// @file
/// What the linear layers of a model read, kept in a file: written once by calibrate_model(), read
/// by every calibrated method.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/tensor_file.hpp"
#include "kvant/methods/gram.hpp"
#include "kvant/methods/input_statistics.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/tokenizer.hpp"
#include "kvant/ranks.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::models {

/// How calibrate_model goes about it.
struct CalibrateOptions {
  /// Second moments of the inputs too, for GPTQ and AWQ: 4 * features^2 bytes an input.
  bool moments = true;
  /// In the second moments, rows longer than this many times the median of their window are
  /// shortened to it. Models keep some tokens (mostly the first) hundreds of times as long as all
  /// others, to attend to where there is nothing to attend to; unbounded, these few decide what the
  /// moments say. 0: rows count as they are.
  float longest_row = 4.0f;
  float threshold = 6.0f;  ///< of outliers
  /// What the model's weights are while it runs: float32, bfloat16, or int8_row (LLM.int8()).
  WeightFormat forward = WeightFormat::float32;
  /// Called before each window of each block; may be empty.
  std::function<void(std::int64_t done, std::int64_t total, const std::string& layer)> progress =
      {};
  /// Replaces the weights [out, in] of a layer whose inputs have been seen; null: none. Each block
  /// then reads what the replaced ones before it make, as GPTQ's authors calibrate, at the cost of
  /// running every block twice. (replacement() of quantize_methods.hpp makes one.) Needs moments.
  std::function<void(const std::string& layer, const methods::GramMatrix& moments,
                     MatrixView<float> weights)>
      replace = {};
  std::string replaced_by = {};  ///< in words: what tells this attempt from others
  /// Ranks share the windows, and the second moments; rank 0 writes. Null: this process alone. The
  /// same bytes for any number of them.
  Ranks* ranks = nullptr;
  /// Set from anywhere to stop: Error cancelled; what is done stays for the next attempt.
  const std::atomic<bool>* cancel = nullptr;
};

/// What calibrate_model did.
struct CalibrateSummary {
  std::int64_t inputs = 0;  ///< that layers read; some are shared
  std::int64_t layers = 0;
  std::int64_t rows = 0;            ///< tokens
  std::int64_t resumed_blocks = 0;  ///< that an attempt before had done
  std::vector<std::string> warnings;
};

/// Runs windows of ids through the model, block by block: one block is in memory at a time, with
/// the second moments of its inputs; what goes from block to block waits on disk, in OUT.partial.
/// An attempt that was killed is taken up behind the last complete block, where model, windows and
/// options are the same.
/// @param path a folder or GGUF file
/// @param windows each a text of its own, at most n_positions long
/// @throws Error as load_model; invalid_argument: no windows; not_finite: an activation that is NaN
///         or infinite, with the layer's name; io, cancelled
KVANT_API CalibrateSummary calibrate_model(Context& context, const std::filesystem::path& path,
                                           const Config& config,
                                           const std::vector<std::vector<TokenId>>& windows,
                                           const std::filesystem::path& out,
                                           const CalibrateOptions& options = {});

/// Of a model's linear layers: their names, shapes, and the first row of each, whichever way they
/// are stored. @throws Error as load_model
[[nodiscard]] KVANT_API std::string model_fingerprint(Context& context,
                                                      const std::filesystem::path& path,
                                                      const Config& config);

/// A file of statistics. Of each input, called like the first layer that reads it: NAME.min, .max
/// [features] F32, .sum_abs F64, .outliers I64, .histogram [2048] I64, .rows [2] I64 (all, with an
/// outlier), and .moments [features, features] F32 if they were asked for. Metadata: which layer
/// reads which input.
class KVANT_API StatisticsFile {
 public:
  /// @throws Error io, FormatError; invalid_file: not such a file
  explicit StatisticsFile(const std::filesystem::path& path);

  /// Whether a file is one, by its beginning.
  [[nodiscard]] static bool is_one(const std::filesystem::path& path);

  [[nodiscard]] const std::string& model_type() const noexcept { return model_type_; }
  /// Tells models from each other: model_fingerprint() of the one that was run.
  [[nodiscard]] const std::string& fingerprint() const noexcept { return fingerprint_; }
  /// Layer -> the input that it reads, by its name.
  [[nodiscard]] const std::map<std::string, std::string>& inputs() const noexcept {
    return inputs_;
  }
  [[nodiscard]] bool contains(const std::string& layer) const { return inputs_.contains(layer); }
  [[nodiscard]] bool has_moments() const noexcept { return has_moments_; }
  /// Of the input of a layer.
  /// @throws Error invalid_file: no such layer (its name is given, and one that is there), values
  ///         that are missing, do not fit or cannot be
  [[nodiscard]] methods::InputStatistics statistics(const std::string& layer) const;
  /// @throws Error as statistics(); invalid_argument: there are none
  [[nodiscard]] methods::GramMatrix moments(const std::string& layer) const;

 private:
  [[nodiscard]] const std::string& input_of(const std::string& layer) const;
  template <class T>
  [[nodiscard]] std::vector<T> values(const std::string& tensor) const;
  io::SafeTensors file_;
  std::string shown_;
  std::string model_type_;
  std::string fingerprint_;
  std::map<std::string, std::string> inputs_;
  float threshold_ = 6.0f;
  bool has_moments_ = false;
};

}  // namespace kvant::models
