#pragma once

// kvant quantize by a method that looks at more than the nearest code.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "calibration_windows.hpp"
#include "job_options.hpp"
#include "kvant/io/quantize_checkpoint.hpp"

namespace kvant::program {

/// What the command line says of it beside its own flags.
struct MethodTask {
  std::string model;
  std::string output;
  std::string scheme;
  std::string calibrate;  ///< a text, or a file of statistics
  std::int64_t group = 0;
  bool symmetric = false;
};

struct MethodFlags {
  std::string method;  ///< --method
  int bits = 4;
  bool act_order = false;
  bool dynamic_groups = false;
  bool search_ranges = false;
  bool sequential = false;
  double damp = 0.01;
  double alpha = 0.5;
  WindowFlags windows;

  void add_to(CLI::App& app);
  /// Whether the scheme, or --method with int4, is one of the methods.
  /// @throws UsageError: --method with another scheme
  [[nodiscard]] bool chosen(const std::string& scheme) const;
  /// Of the method.
  [[nodiscard]] std::string name(const std::string& scheme) const;
  /// @throws UsageError where flags of methods are given without one
  void refuse_unused() const;
  /// Does all of it, and prints what came of it.
  int run(const MethodTask& task, io::QuantizeCheckpointOptions options,
          const JobFlags& flags) const;

 private:
  CLI::Option* only_for_methods_[7] = {};
};

}  // namespace kvant::program
