// Measuring, choosing under a budget, and what there was to choose from.

#if KVANT_PROGRAM_MODELS
#include "selection.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "command_line.hpp"
#include "interrupt.hpp"
#include "kvant/error.hpp"

namespace kvant::program {
namespace {

using models::LayerFormat;
using models::TokenId;

/// Sizes on the curve, bits a weight, as far as there are mixes of them.
constexpr std::array kCurve = {2.5, 2.75, 3.0, 3.25, 3.5, 3.75, 4.0, 4.25, 4.5, 5.0, 6.0, 7.0, 8.0};

}  // namespace

Selection::Selection(const SelectTask& task, const models::ModelFiles& files, Context& context,
                     bool exact)
    : task_(task),
      loading_(task.quiet, "blocks loaded"),
      trials_(context, files.path(), files.config(), exact, [this](auto done, auto of) {
        if (interrupted()) throw Error(ErrorCode::cancelled, "interrupted");
        loading_.update(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(of), "");
      }) {
  loading_.finish();
}

void Selection::measure(const std::vector<std::vector<TokenId>>& windows,
                        models::MeasureOptions options) {
  Progress progress(task_.quiet, "trials of layers");
  options.cancel = &interrupted();
  options.progress = progress.counter();
  found_ = trials_.measure(windows, options);
}

void Selection::count_as_written(const std::vector<io::PlannedLayer>& layers) {
  for (const io::PlannedLayer& planned : layers) {
    for (models::LayerSensitivity& layer : found_.layers) {
      if (layer.name != planned.name) continue;
      for (models::FormatSensitivity& format : layer.formats) {
        if (!describe(format.format.format).is_float()) format.bytes = planned.bytes_after;
        // Stays as it is.
        if (format.format.format == WeightFormat::float32) format.bytes = planned.bytes_before;
      }
    }
  }
}

void Selection::set_evaluation(std::vector<TokenId> ids, std::int64_t window) {
  ids_ = std::move(ids);
  window_ = window;
  floats_ = evaluate({});
}

models::MeasuredMix Selection::under(const look::Budget& budget) {
  const auto elements = static_cast<double>(found_.elements());
  const auto others = static_cast<double>(trials_.other_bytes());
  const double room = budget.kind == look::BudgetKind::bits
                          ? std::floor(budget.value * elements / 8)
                          : budget.value - others;
  const std::uint64_t smallest = smallest_bytes(found_);
  if (room < static_cast<double>(smallest)) {
    throw UsageError("--budget " + task_.budget + ": the smallest mix of these formats takes " +
                     in_words(smallest) + ", with " + size_text(trials_.other_bytes()) +
                     " in tensors that stay as they are");
  }
  const std::uint64_t useful = useful_bytes(found_);
  if (room > static_cast<double>(useful)) {
    std::fprintf(stderr,
                 "kvant: warning: --budget %s is more than these formats have a use for; the "
                 "best mix takes %s\n",
                 task_.budget.c_str(), in_words(useful).c_str());
  }
  models::MeasuredMix result;
  result.mix = best_mix(found_, static_cast<std::uint64_t>(std::min(room, 9e18)), &interrupted());
  result.result = evaluate(result.mix);
  return result;
}

models::MeasuredMix Selection::below(double perplexity) {
  return mix_below(trials_, found_, ids_, window_, floats_, perplexity, evaluation());
}

void Selection::add_points(look::MixReport& report, bool measured) {
  struct Candidate {
    std::string label;
    look::MixPointKind kind;
    models::Mix mix;
  };
  std::vector<Candidate> candidates;
  const auto& formats = found_.layers.front().formats;
  for (std::size_t f = 0; f < formats.size(); ++f) {
    candidates.push_back(
        {to_string(formats[f].format), look::MixPointKind::uniform, uniform_mix(found_, f)});
  }
  for (const double bits : kCurve) {
    const double bytes = std::floor(bits * static_cast<double>(found_.elements()) / 8);
    if (bytes < static_cast<double>(smallest_bytes(found_)) ||
        bytes > static_cast<double>(useful_bytes(found_))) {
      continue;
    }
    std::ostringstream label;
    label << "mix, " << bits << " bits";
    candidates.push_back({label.str(), look::MixPointKind::mix,
                          best_mix(found_, static_cast<std::uint64_t>(bytes), &interrupted())});
  }
  Progress progress(task_.quiet, "models measured");
  std::uint64_t done = 0;
  for (const Candidate& each : candidates) {
    progress.update(done++, candidates.size(), each.label);
    look::MixPoint point = point_of(each.mix, each.kind, each.label);
    if (measured) point.measured = evaluate(each.mix).perplexity;
    report.points.push_back(std::move(point));
  }
}

look::MixPoint Selection::point_of(const models::Mix& mix, look::MixPointKind kind,
                                   const std::string& label) const {
  return {.label = label,
          .kind = kind,
          .bytes = mix.bytes + trials_.other_bytes(),
          .bits = bits_of(mix.bytes),
          .predicted = std::exp(floats_.nll + mix.loss)};
}

models::EvaluateOptions Selection::evaluation() {
  models::EvaluateOptions options;
  options.cancel = &interrupted();
  return options;
}

models::Perplexity Selection::evaluate(const models::Mix& mix) {
  std::vector<LayerFormat> formats;
  if (!mix.chosen.empty()) formats = formats_of(found_, mix);
  return trials_.evaluate(ids_, window_, formats, evaluation());
}

std::string Selection::in_words(std::uint64_t bytes) const {
  char bits[32];
  std::snprintf(bits, sizeof bits, "%.4g", bits_of(bytes));
  return std::to_string(bytes + trials_.other_bytes()) + " bytes (" + bits + " bits a weight)";
}

}  // namespace kvant::program

#endif
