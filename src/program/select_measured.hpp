#pragma once

// kvant select --measure: formats by layer, by what they cost on a text.

#include <cstdint>
#include <string>

#include "calibration_windows.hpp"
#include "command_line.hpp"
#include "kvant/io/quantize_checkpoint.hpp"

namespace kvant::program {

/// What both ways of selecting are told.
struct SelectTask {
  std::string model;
  std::string budget;  ///< empty: not given
  std::string output;  ///< a folder to quantize into; empty: none
  std::string json;    ///< empty: not asked for; "-": standard output, else a file
  bool quiet = false;
  int threads = 0;
  bool force = false;  ///< the output may replace a checkpoint
};

class MeasureFlags {
 public:
  void add_to(CLI::App& app);
  [[nodiscard]] bool chosen() const { return !text_.empty(); }
  /// Prints, and writes the files that were asked for.
  /// @return how the task's output, if there is one, is to be written
  /// @throws UsageError, Error
  [[nodiscard]] io::QuantizeCheckpointOptions run(const SelectTask& task) const;

 private:
  std::string text_;
  std::string method_ = "divergence";
  std::string formats_;
  std::string arithmetic_ = "exact";
  std::string statistics_;
  std::string evaluate_;
  std::string plan_;
  std::string svg_;
  std::string html_;
  double max_perplexity_ = 0;
  bool chosen_only_ = false;
  WindowFlags windows_{.windows = 4, .window = 256};
  std::int64_t evaluate_window_ = 512;
};

}  // namespace kvant::program
