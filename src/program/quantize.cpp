// kvant quantize: a float checkpoint to a smaller one.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "command_line.hpp"
#include "job_options.hpp"
#include "kvant/error.hpp"
#include "method_options.hpp"
#include "outlier_columns.hpp"
#include "ranks.hpp"
#if KVANT_PROGRAM_MODELS
#include "kvant/models/layer_format.hpp"
#endif

namespace kvant::program {
namespace {

constexpr const char* kQuantizeDescription =
    "Examples:\n"
    "  kvant quantize MODEL OUT\n"
    "  kvant quantize MODEL OUT --scheme llm-int8 --skip 'transformer.h.0.*'\n"
    "  kvant quantize MODEL OUT --only '*.mlp.*=llm-int8' --dry-run\n"
    "  kvant quantize MODEL OUT --calibrate text.txt --max-shard-size 2GB\n"
    "  kvant quantize MODEL OUT --scheme nf4 --block 128\n"
    "  kvant quantize MODEL OUT --scheme int4 --group 128 --as awq\n"
    "  kvant quantize MODEL OUT --scheme gptq --bits 4 --group 64 --calibrate text.txt\n"
    "  mpirun -np 4 kvant quantize MODEL OUT    (four processes share the work)\n\n"
    "Writes the folder OUT from the folder MODEL (config.json, safetensors files). Results of\n"
    "llm-int8, int8, nf4 and fp4 load in transformers as bitsandbytes models, those of int4 as\n"
    "GPTQ or AWQ models, those of fp8 and mxfp4 as compressed-tensors' and those of fp8-block as\n"
    "DeepSeek's (quant_method fp8). gptq, awq and smoothquant choose codes by what the layers "
    "read\n"
    "in a text, or in a file of statistics that kvant calibrate wrote; the others round to "
    "nearest.\n"
    "OUT appears whole or not at all; memory does not grow with the model.\n";

io::WeightScheme scheme_of(const std::string& name, const std::string& where) {
  const auto scheme = io::weight_scheme_from_name(name);
  if (!scheme || *scheme == io::WeightScheme::keep) {
    throw UsageError(where + ": " + name.substr(0, 40) + " is not one of " +
                     io::weight_scheme_names());
  }
  return *scheme;
}

io::LayerRule parse_only(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError("--only " + text.substr(0, 80) +
                     ": not PATTERN=SCHEME, like 'transformer.h.*.mlp.*=int8'");
  }
  return {text.substr(0, equals), scheme_of(text.substr(equals + 1), "--only")};
}

/// The formats of a plan file as rules.
void take_plan(const std::string& file, io::QuantizeCheckpointOptions& options) {
#if KVANT_PROGRAM_MODELS
  const io::QuantizeCheckpointOptions planned = to_quantize_options(models::read_format_plan(file));
  options.scheme = planned.scheme;
  options.rules = planned.rules;
  options.block = planned.block;
  options.nested = planned.nested;
#else
  static_cast<void>(options);
  throw Error(ErrorCode::unsupported,
              file + ": plans need kvant::models, which this program was built without");
#endif
}

/// Whether a layer may become what is asked for.
template <class Asked>
bool any_scheme(const io::QuantizeCheckpointOptions& options, Asked asked) {
  return asked(options.scheme) ||
         std::any_of(options.rules.begin(), options.rules.end(),
                     [&](const io::LayerRule& rule) { return asked(rule.scheme); });
}

bool quantizes_scales(const io::QuantizeCheckpointOptions& options) {
  return any_scheme(options, [](io::WeightScheme scheme) {
    return scheme.format && describe(*scheme.format).nested;
  });
}

bool may_become(const io::QuantizeCheckpointOptions& options, WeightFormat format) {
  return any_scheme(options, [&](io::WeightScheme scheme) { return scheme.format == format; });
}

/// The value of --group or --block: -1, or from 1 up.
std::int64_t parse_group(const std::string& text, const char* option) {
  std::int64_t group = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, group);
  if (read.ec != std::errc() || read.ptr != end || (group < 1 && group != -1)) {
    throw UsageError(std::string(option) + " " + text.substr(0, 40) +
                     ": neither a whole number above 0 nor -1 (a group for each output)");
  }
  return group;
}

Outliers parse_outliers(const std::string& name) {
  if (name == "per-call") return Outliers::per_call;
  if (name == "per-row") return Outliers::per_row;
  if (name == "calibrated") return Outliers::calibrated;
  throw UsageError("--outliers " + name.substr(0, 40) +
                   " is not one of per-call, per-row, calibrated");
}

}  // namespace

int quantize_command(const Arguments& arguments) {
  std::string model;
  std::string output;
  std::string scheme;
  std::vector<std::string> skip;
  std::vector<std::string> only;
  std::string calibrate;
  std::string keep_outliers;
  std::string plan_file;
  std::string outliers = "per-call";
  std::string threshold_text;
  std::string group_text;
  std::string block_text;
  bool no_double = false;
  bool symmetric = false;
  JobFlags flags;
  MethodFlags method;
  io::QuantizeCheckpointOptions options;

  CLI::App app(kQuantizeDescription, "kvant quantize");
  app.add_option("MODEL", model, "the folder to read")->required();
  app.add_option("OUT", output, "the folder to write")->required();
  app.add_option("--scheme", scheme,
                 io::weight_scheme_names() +
                     ", gptq, awq, smoothquant; int8 is llm-int8 without outlier features\n"
                     "(default: llm-int8; with --only, the other layers stay as they are)")
      ->type_name("NAME");
  auto* threshold = app.add_option("--threshold", threshold_text,
                                   "llm-int8: inputs of at least this magnitude are outliers\n"
                                   "(default: 6)")
                        ->type_name("T");
  auto* group_option =
      app.add_option("--group", group_text,
                     "int4, int3, int2, gptq, awq: inputs that share a scale, a multiple of 32, "
                     "or -1:\nall of an output (default: 64); int8-group: 32, 64, 128 (default)")
          ->type_name("N");
  auto* block_option =
      app.add_option(
             "--block", block_text,
             "the same by the name that it has for nf4 and fp4: 32, 64 (default), 128, ..., "
             "4096\nweights")
          ->type_name("N")
          ->excludes(group_option);
  auto* plain = app.add_flag("--no-double", no_double,
                             "nf4, fp4: scales stay fp32 instead of being quantized too");
  auto* centred = app.add_flag("--symmetric", symmetric,
                               "int4: no zero points beside the scales (they are all 8)");
  method.add_to(app);
  auto* as = app.add_option("--as", options.quant_method,
                            "int4: the form of gptq (version 2, the default) or awq (gemm);\n"
                            "int8, smoothquant: compressed-tensors instead of bitsandbytes")
                 ->type_name("NAME")
                 ->check(CLI::IsMember({"gptq", "awq", "compressed-tensors"}));
  app.add_option("--skip", skip,
                 "keep layers as they are whose full name matches, e.g. '*.h.0.*';\n"
                 "may be repeated")
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--only", only, "a scheme for the layers that match; may be repeated")
      ->type_name("PATTERN=SCHEME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  auto* calibrate_option =
      app.add_option(
             "--calibrate", calibrate,
             "llm-int8: find the outlier features by running this text, and keep their weights in\n"
             "fp16 too (read by kvant, ignored by transformers); gptq, awq, smoothquant: a text, "
             "or\n"
             "a file of statistics (.safetensors)")
          ->type_name("FILE");
  app.add_option("--keep-outliers", keep_outliers,
                 "the same from a list: JSON, layer name -> columns")
      ->type_name("FILE")
      ->excludes(calibrate_option);
  auto* how =
      app.add_option("--outliers", outliers,
                     "how kvant chooses outlier features at run time: per-call, per-row (a row's\n"
                     "result does not depend on its neighbours) or calibrated (only the kept ones)")
          ->type_name("NAME");
  auto* plan_option =
      app.add_option("--plan", plan_file,
                     "a format for each layer, as kvant select --measure --plan writes it: one\n"
                     "quantized format beside floats")
          ->type_name("FILE");
  flags.add_to(app);
  if (!parse(app, arguments)) return 0;

  std::int64_t block = 0;
  if (group_option->count() > 0) block = parse_group(group_text, "--group");
  if (block_option->count() > 0) block = parse_group(block_text, "--block");
  if (threshold->count() > 0) options.threshold = parse_threshold(threshold_text);
  options.scheme = io::WeightScheme::llm_int8;
  if (method.chosen(scheme) && plan_option->count() > 0) {
    throw UsageError("--plan is not for " + method.name(scheme));
  }
  if (method.chosen(scheme)) {
    if (threshold->count() + plain->count() + how->count() > 0 || !keep_outliers.empty() ||
        !only.empty()) {
      throw UsageError(
          "--threshold, --no-double, --only, --outliers and --keep-outliers are not for " +
          method.name(scheme));
    }
    for (const std::string& pattern : skip) {
      options.rules.push_back({pattern, io::WeightScheme::keep});
    }
    options.dry_run = flags.dry_run;
    return method.run({model, output, scheme, calibrate, block, symmetric,
                       std::exchange(options.quant_method, {})},
                      options, flags);
  }
  method.refuse_unused();
  if (!plan_file.empty()) {
    if (!scheme.empty() || !only.empty() || block != 0) {
      throw UsageError(
          "--plan says the scheme of every layer; leave --scheme, --only and --group out");
    }
    take_plan(plan_file, options);
  }
  if (!scheme.empty()) {
    options.scheme = scheme_of(scheme, "--scheme");
  } else if (!only.empty()) {
    options.scheme = io::WeightScheme::keep;
  }
  for (const std::string& text : only) options.rules.push_back(parse_only(text));
  for (const std::string& pattern : skip) {
    options.rules.push_back({pattern, io::WeightScheme::keep});
  }
  const bool outlier_features =
      any_scheme(options, [](io::WeightScheme each) { return each.outliers; });
  if (!outlier_features) {
    const std::string has_none = " is for llm-int8, which no layer is to become";
    if (threshold->count() > 0 && options.threshold > 0) {
      throw UsageError("--threshold" + has_none);
    }
    if (!keep_outliers.empty()) throw UsageError("--keep-outliers" + has_none);
    if (how->count() > 0) throw UsageError("--outliers" + has_none);
    if (!calibrate.empty()) {
      throw UsageError("--calibrate" + has_none +
                       " (codes chosen by a text: --scheme gptq, awq or smoothquant)");
    }
  }
  if (plain->count() > 0 && !quantizes_scales(options)) {
    throw UsageError("--no-double is for nf4 and fp4");
  }
  const WeightFormat wanted = options.quant_method == "compressed-tensors"
                                  ? WeightFormat::int8_row
                                  : WeightFormat::int4_group;
  if (as->count() > 0 && !may_become(options, wanted)) {
    throw UsageError("--as " + options.quant_method + " is for " + std::string(to_string(wanted)));
  }
  if (centred->count() > 0 && !may_become(options, WeightFormat::int4_group)) {
    throw UsageError("--symmetric is for int4");
  }
  options.zero_points = !symmetric;
  if (plan_file.empty()) {
    options.block = block;
    options.nested = !no_double;
  }
  options.outliers = parse_outliers(outliers);
  Progress progress(flags.quiet);
  flags.apply(options.job, progress);
  options.dry_run = flags.dry_run;
  options.job.ranks = job_ranks();
  options.job.threads = threads_of_rank(flags.threads);
  agree_on_files(model);
  if (!keep_outliers.empty()) options.keep_outliers = read_outlier_columns(keep_outliers);
  if (!calibrate.empty()) {
    io::QuantizeCheckpointOptions trial = options;  // mistakes show before the model runs
    trial.dry_run = true;
    if (trial.outliers == Outliers::calibrated) trial.outliers = Outliers::per_call;  // until then
    const io::CheckpointSummary plan = quantize_checkpoint(model, output, trial);
    if (std::none_of(plan.layers.begin(), plan.layers.end(), [](const io::PlannedLayer& layer) {
          return layer.scheme == io::WeightScheme::llm_int8;
        })) {
      throw UsageError("--calibrate is for llm-int8, which no layer is to become");
    }
    const OutlierColumns found =
        find_outlier_columns(model, calibrate, options.threshold, flags.threads, flags.quiet);
    for (const io::PlannedLayer& layer : plan.layers) {
      const auto columns = found.find(layer.name);
      if (layer.scheme == io::WeightScheme::llm_int8 && columns != found.end()) {
        options.keep_outliers.insert(*columns);
      }
    }
  }
  const auto start = std::chrono::steady_clock::now();
  const io::CheckpointSummary summary = quantize_checkpoint(model, output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!options.dry_run) set_result_written();
  print_summary(summary, flags, "changed", output, seconds.count());
  return 0;
}

}  // namespace kvant::program
