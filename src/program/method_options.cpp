#include "method_options.hpp"

#include "command_line.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "interrupt.hpp"
#include "kvant/models/quantize_methods.hpp"
#include "ranks.hpp"
#endif

namespace kvant::program {

void MethodFlags::add_to(CLI::App& app) {
  auto* method_flag =
      app.add_option(
             "--method", method,
             "int4, without calibration: rtn (rounded to nearest, the default), mse (ranges\n"
             "shrunk to the least error) or hqq (zero points moved)")
          ->type_name("NAME")
          ->check(CLI::IsMember({"rtn", "mse", "hqq"}));
  static_cast<void>(method_flag);
  only_for_methods_[0] = app.add_option("--bits", bits, "gptq: 2, 3, 4 (default) or 8")
                             ->type_name("N")
                             ->check(CLI::IsMember({2, 3, 4, 8}));
  only_for_methods_[1] = app.add_flag(
      "--act-order", act_order, "gptq: inputs with the largest activations first; groups stay");
  only_for_methods_[2] =
      app.add_flag("--dynamic-groups", dynamic_groups,
                   "gptq --act-order: groups in the new order (\"desc_act\" with g_idx)");
  only_for_methods_[3] = app.add_flag("--search-ranges", search_ranges,
                                      "gptq: shrink each group's range to the least error");
  only_for_methods_[4] =
      app.add_option("--damp", damp, "gptq: added to the diagonal (0.01)")->type_name("SHARE");
  only_for_methods_[5] =
      app.add_option("--alpha", alpha, "smoothquant: how much of the range moves (0.5)")
          ->type_name("A");
  only_for_methods_[6] =
      app.add_flag("--sequential", sequential,
                   "gptq with a text: each block reads what the quantized ones before it make");
  windows.add_to(app);
}

void MethodFlags::refuse_unused() const {
  for (const CLI::Option* option : only_for_methods_) {
    if (option->count() > 0) {
      throw UsageError(option->get_name() + " is for the schemes gptq and smoothquant");
    }
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

bool is_statistics(const std::string& file) {
  return std::filesystem::path(file).extension() == ".safetensors";
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

int MethodFlags::run(const MethodTask& task, io::QuantizeCheckpointOptions options,
                     const JobFlags& flags) const {
  models::MethodOptions chosen{.method = *models::method_from_name(name(task.scheme)),
                               .bits = bits,
                               .symmetric = task.symmetric,
                               .act_order = act_order,
                               .static_groups = !dynamic_groups,
                               .damp = damp,
                               .alpha = alpha};
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
  if (sequential && (chosen.method != models::Method::gptq || is_statistics(task.calibrate))) {
    throw UsageError("--sequential is for --scheme gptq with --calibrate and a text");
  }
  Context context(ContextOptions{.threads = threads_of_rank(flags.threads)});
  options.job.ranks = job_ranks();
  agree_on_files(task.model);
  if (!task.calibrate.empty()) agree_on_files(task.calibrate);
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<models::StatisticsFile> statistics;
  std::filesystem::path made;  // here, and not needed behind the end
  if (calibrated && is_statistics(task.calibrate)) {
    statistics = std::make_unique<models::StatisticsFile>(task.calibrate);
  } else if (calibrated && !flags.dry_run) {
    made = task.output + ".statistics.safetensors";
    const models::ModelFiles files(task.model);
    Progress progress(flags.quiet, "windows through blocks");
    models::CalibrateOptions calibrate;
    calibrate.moments = needs_moments(chosen.method);
    if (sequential) {
      std::vector<std::string> kept;
      for (const io::LayerRule& rule : options.rules) kept.push_back(rule.pattern);
      models::calibrate_for(context, chosen, kept, calibrate);
    }
    calibrate.ranks = job_ranks();
    calibrate.cancel = &interrupted();
    calibrate.progress = [&](std::int64_t done, std::int64_t total, const std::string& layer) {
      progress.update(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total), layer);
    };
    models::calibrate_model(context, files.path(), files.config(),
                            windows.read(files, task.calibrate), made, calibrate);
    progress.finish();
    statistics = std::make_unique<models::StatisticsFile>(made);
  } else if (calibrated) {
    throw UsageError("--dry-run with --scheme " + task.scheme +
                     " takes a file of statistics (--calibrate STATS.safetensors)");
  }
  Progress progress(flags.quiet);
  flags.apply(options.job, progress);
  const models::MethodSummary result = models::quantize_by_method(
      context, task.model, task.output, chosen, statistics.get(), options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!options.dry_run) set_result_written();
  statistics.reset();
  std::error_code ignored;
  if (!made.empty() && leads()) std::filesystem::remove(made, ignored);
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
