#include "method_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "command_line.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>

#include "interrupt.hpp"
#include "kvant/io/atomic_file.hpp"
#include "kvant/models/quantize_methods.hpp"
#include "ranks.hpp"
#endif

namespace kvant::program {

void MethodFlags::add_to(CLI::App& app) {
  app.add_option("--method", method,
                 "int4, without calibration: rtn (rounded to nearest, the default), mse (ranges\n"
                 "shrunk to the least error) or hqq (zero points moved)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"rtn", "mse", "hqq"}));
  const auto only = [&](CLI::Option* option, std::vector<std::string> methods) {
    only_for_.push_back({option, std::move(methods)});
    return option;
  };
  only(app.add_option("--bits", bits, "gptq, --method: 2, 3, 4 (default) or 8"),
       {"gptq", "rtn", "mse", "hqq"})
      ->type_name("N")
      ->check(CLI::IsMember({2, 3, 4, 8}));
  only(app.add_flag("--act-order", act_order,
                    "gptq: inputs with the largest activations first; groups stay"),
       {"gptq"});
  only(app.add_flag("--dynamic-groups", dynamic_groups,
                    "gptq --act-order: groups in the new order (\"desc_act\" with g_idx)"),
       {"gptq"});
  only(app.add_flag("--search-ranges", search_ranges,
                    "gptq: shrink each group's range to the least error"),
       {"gptq"});
  only(app.add_option("--damp", damp, "gptq: added to the diagonal (0.01)"), {"gptq"})
      ->type_name("SHARE");
  only(app.add_option("--alpha", alpha, "smoothquant: how much of the range moves (0.5)"),
       {"smoothquant"})
      ->type_name("A");
  only(app.add_flag("--static", static_activations,
                    "smoothquant --as compressed-tensors: one scale for all activations of a\n"
                    "layer, from the largest seen; else each row has its own"),
       {"smoothquant"});
  only(app.add_flag("--sequential", sequential,
                    "gptq with a text: each block reads what the quantized ones before it make"),
       {"gptq"});
  for (CLI::Option* option : windows.add_to(app)) only(option, {"gptq", "awq", "smoothquant"});
}

void MethodFlags::refuse_unused(const std::string& chosen) const {
  for (const Only& only : only_for_) {
    const bool used =
        std::find(only.methods.begin(), only.methods.end(), chosen) != only.methods.end();
    if (only.option->count() == 0 || used) continue;
    std::string names;
    for (const std::string& name : only.methods) names += (names.empty() ? "" : ", ") + name;
    throw UsageError(only.option->get_name() + " is for " + names + " alone");
  }
  if (dynamic_groups && !act_order) {
    throw UsageError("--dynamic-groups is for gptq with --act-order");
  }
}

#if KVANT_PROGRAM_MODELS

bool MethodFlags::chosen(const std::string& scheme) const {
  if (!method.empty() && scheme != "int4") {
    throw UsageError("--method is for --scheme int4");
  }
  return !method.empty() || scheme == "gptq" || scheme == "awq" || scheme == "smoothquant";
}

std::string MethodFlags::name(const std::string& scheme) const {
  return method.empty() ? scheme : method;
}

namespace {

/// A file that rank 0 has made, for ranks that do not see its disk.
void share_file(const std::filesystem::path& file) {
  Ranks* const ranks = job_ranks();
  if (ranks == nullptr) return;
  std::error_code ignored;
  std::uint32_t missing = std::filesystem::exists(file, ignored) ? 0 : 1;
  ranks->all_or(std::span(&missing, 1));
  if (missing == 0) return;
  std::uint64_t size = leads() ? std::filesystem::file_size(file) : 0;
  ranks->broadcast(std::as_writable_bytes(std::span(&size, 1)));
  constexpr std::uint64_t kPiece = 8 << 20;
  std::ifstream in;
  if (leads()) in.open(file, std::ios::binary);
  std::optional<io::AtomicFile> out;
  if (!std::filesystem::exists(file, ignored)) out.emplace(file);
  std::vector<std::byte> piece;
  for (std::uint64_t at = 0; at < size; at += kPiece) {
    piece.resize(static_cast<std::size_t>(std::min(kPiece, size - at)));
    if (leads()) {
      in.read(reinterpret_cast<char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
    }
    ranks->broadcast(piece);
    if (out) out->write(piece);
  }
  if (out) out->commit();
}

/// Beside the output, where the statistics of a text wait for the end of the job.
std::filesystem::path statistics_beside(const std::string& output) {
  std::filesystem::path folder = std::filesystem::path(output).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "out/"
  return folder.string() + ".calibration.safetensors";
}

void print_outcomes(const std::vector<models::LayerOutcome>& layers) {
  double log_nearest = 0;
  double log_chosen = 0;
  int known = 0;
  const models::LayerOutcome* worst = nullptr;
  for (const models::LayerOutcome& layer : layers) {
    if (!layer.notes.empty()) {
      std::fprintf(stderr, "kvant: layer %s: %s\n", layer.layer.c_str(), layer.notes.c_str());
    }
    if (!(layer.error > 0) || !(layer.error_nearest > 0)) continue;
    log_nearest += 10 * std::log10(layer.error_nearest);
    log_chosen += 10 * std::log10(layer.error);
    ++known;
    if (worst == nullptr || layer.error > worst->error) worst = &layer;
  }
  if (known == 0) return;
  std::printf("error of the layers' outputs, mean: %.1f dB (rounding to nearest: %.1f dB)\n",
              log_chosen / known, log_nearest / known);
  std::printf("largest: %.1f dB (%.1f dB) in %s\n", 10 * std::log10(worst->error),
              10 * std::log10(worst->error_nearest), worst->layer.c_str());
}

}  // namespace

/// Runs the model over the text, for this method.
std::unique_ptr<models::StatisticsFile> MethodFlags::calibrate_text(
    Context& context, const MethodTask& task, const io::QuantizeCheckpointOptions& options,
    const models::MethodOptions& chosen, const std::filesystem::path& made, bool quiet) const {
  const models::ModelFiles files(task.model);
  Progress progress(quiet, "windows through blocks");
  models::CalibrateOptions calibrate;
  calibrate.moments = needs_moments(chosen.method);
  if (sequential) {
    std::vector<std::string> kept;
    for (const io::LayerRule& rule : options.rules) kept.push_back(rule.pattern);
    models::calibrate_for(context, chosen, kept, calibrate);
  }
  calibrate.ranks = job_ranks();
  calibrate.cancel = &interrupted();
  calibrate.progress = progress.counter();
  models::calibrate_model(context, files.path(), files.config(),
                          windows.read(files, task.calibrate), made, calibrate);
  progress.finish();
  share_file(made);
  return std::make_unique<models::StatisticsFile>(made);
}

int MethodFlags::run(const MethodTask& task, io::QuantizeCheckpointOptions options,
                     const JobFlags& flags) const {
  models::MethodOptions chosen{.method = *models::method_from_name(name(task.scheme)),
                               .bits = bits,
                               .symmetric = task.symmetric,
                               .act_order = act_order,
                               .static_groups = !dynamic_groups,
                               .damp = damp,
                               .alpha = alpha,
                               .compressed_tensors = task.as == "compressed-tensors",
                               .static_activations = static_activations};
  if (task.group != 0) chosen.group = task.group;
  if (search_ranges) chosen.search = methods::RangeSearch::mse;
  const bool calibrated = needs_statistics(chosen.method);
  if (calibrated && task.calibrate.empty()) {
    throw UsageError("--scheme " + task.scheme +
                     " needs --calibrate with a text, or with a file of statistics that kvant "
                     "calibrate wrote");
  }
  if (!calibrated && !task.calibrate.empty()) {
    throw UsageError("--calibrate is not for --method " + method);
  }
  refuse_unused(name(task.scheme));
  const std::string form = chosen.method == models::Method::smoothquant ? "compressed-tensors"
                           : chosen.method == models::Method::awq       ? "awq"
                                                                        : "gptq";
  if (!task.as.empty() && task.as != form) {
    throw UsageError("--as " + task.as + " is not for " + name(task.scheme) +
                     ", which takes --as " + form);
  }
  if (static_activations && !chosen.compressed_tensors) {
    throw UsageError("--static needs --as compressed-tensors, whose files keep the scales");
  }
  if (chosen.method == models::Method::smoothquant && (task.symmetric || task.group != 0)) {
    throw UsageError(
        "--group and --symmetric are not for smoothquant, whose codes have one scale "
        "for each output");
  }
  const bool from_file = calibrated && models::StatisticsFile::is_one(task.calibrate);
  if (sequential && from_file) {
    throw UsageError("--sequential is for --scheme gptq with --calibrate and a text");
  }
  Context context(ContextOptions{.threads = threads_of_rank(flags.threads)});
  agree_on_files(task.model);
  if (!task.calibrate.empty()) agree_on_files(task.calibrate);
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<models::StatisticsFile> statistics;
  if (from_file) {
    statistics = std::make_unique<models::StatisticsFile>(task.calibrate);
  }
  Progress progress(flags.quiet);
  flags.apply(options.job, progress);
  options.job.ranks = job_ranks();
  std::filesystem::path made;  // here, and not needed behind the end
  if (calibrated && statistics == nullptr && !flags.dry_run) {
    io::QuantizeCheckpointOptions trial = options;  // mistakes show before the model runs
    trial.dry_run = true;
    models::quantize_by_method(context, task.model, task.output, chosen, nullptr, trial);
    if (!flags.force && leads() && std::filesystem::exists(task.output)) {
      throw Error(ErrorCode::io, task.output +
                                     ": exists already; give another name, or force "
                                     "(--force) to replace it");
    }
    made = statistics_beside(task.output);
    if (leads() && std::filesystem::exists(made)) {
      throw Error(ErrorCode::io, made.string() +
                                     ": is in the way; give it as --calibrate if it "
                                     "is what an attempt before left, or move it away");
    }
    statistics = calibrate_text(context, task, options, chosen, made, flags.quiet);
  }
  models::MethodSummary result;
  try {
    result = models::quantize_by_method(context, task.model, task.output, chosen, statistics.get(),
                                        options);
  } catch (const Error& error) {
    if (made.empty()) throw;
    throw Error(error.code(), std::string(error.what()) +
                                  "; the statistics of the text are kept: --calibrate " +
                                  shell_word(made.string()));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!options.dry_run) set_result_written();
  statistics.reset();
  std::error_code ignored;
  if (!made.empty()) std::filesystem::remove(made, ignored);
  print_summary(result.checkpoint, flags, "changed", task.output, seconds.count());
  // Ranks make some of the layers each; rank 0 knows of its own alone.
  if (!flags.quiet && job_ranks() == nullptr) print_outcomes(result.layers);
  return 0;
}

#else

bool MethodFlags::chosen(const std::string& scheme) const {
  if (method.empty() && scheme != "gptq" && scheme != "awq" && scheme != "smoothquant") {
    return false;
  }
  throw Error(ErrorCode::unsupported,
              "methods need kvant::models, which this program was built "
              "without");
}

std::string MethodFlags::name(const std::string& scheme) const {
  return scheme;
}

int MethodFlags::run(const MethodTask&, io::QuantizeCheckpointOptions, const JobFlags&) const {
  return 1;
}

#endif

}  // namespace kvant::program
