#pragma once

// kvant quantize by a method that looks at more than the nearest code.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "calibration_windows.hpp"
#include "command_line.hpp"
#include "job_options.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#if KVANT_PROGRAM_MODELS
#include "kvant/models/quantize_methods.hpp"
#endif

namespace kvant::program {

/// What the command line says of it beside its own flags.
struct MethodTask {
  std::string model;
  std::string output;
  std::string scheme;
  std::string calibrate;  ///< a text, or a file of statistics
  std::int64_t group = 0;
  bool symmetric = false;
  std::string as;  ///< --as; empty: the method's own form
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
  bool static_activations = false;
  WindowFlags windows;

  void add_to(CLI::App& app);
  /// Whether the scheme, or --method with int4, is one of the methods.
  /// @throws UsageError: --method with another scheme
  [[nodiscard]] bool chosen(const std::string& scheme) const;
  /// Of the method.
  [[nodiscard]] std::string name(const std::string& scheme) const;
  /// @param chosen the method; empty: none
  /// @throws UsageError where flags of other methods are given
  void refuse_unused(const std::string& chosen = {}) const;
  /// Does all of it, and prints what came of it.
  int run(const MethodTask& task, io::QuantizeCheckpointOptions options,
          const JobFlags& flags) const;

 private:
  struct Only {
    CLI::Option* option;
    std::vector<std::string> methods;
  };
#if KVANT_PROGRAM_MODELS
  [[nodiscard]] std::unique_ptr<models::StatisticsFile> calibrate_text(
      Context& context, const MethodTask& task, const io::QuantizeCheckpointOptions& options,
      const models::MethodOptions& chosen, const std::filesystem::path& made, bool quiet) const;
#endif
  std::vector<Only> only_for_;
};

}  // namespace kvant::program
