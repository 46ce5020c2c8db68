// The smallest mix below a perplexity that is measured, not only foretold.

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "kvant/error.hpp"
#include "kvant/models/mix.hpp"

namespace kvant::models {

MeasuredMix mix_below(FormatTrials& trials, const Sensitivities& found,
                      std::span<const TokenId> ids, std::int64_t window, const Perplexity& floats,
                      double most, const EvaluateOptions& options) {
  constexpr int kRuns = 6;
  constexpr double kNearEnough = 0.98;  // of what may be lost
  const auto refuse = [&](const std::string& what, double perplexity) {
    throw Error(ErrorCode::invalid_argument, "a perplexity of " + std::to_string(most) +
                                                 " cannot be reached on this text: " + what +
                                                 std::to_string(perplexity));
  };
  if (!(most >= floats.perplexity)) {
    refuse("the model in floats has ", floats.perplexity);
  }
  const double allowed = std::log(most) - floats.nll;
  const double least = best_mix(found, useful_bytes(found), options.cancel).loss;
  std::optional<MeasuredMix> best;
  const auto measure = [&](Mix mix) {
    MeasuredMix one{std::move(mix), {}};
    one.result = trials.evaluate(ids, window, formats_of(found, one.mix), options);
    const double lost = one.result.nll - floats.nll;
    if (one.result.perplexity <= most && (!best || one.mix.bytes < best->mix.bytes)) best = one;
    return lost;
  };
  double limit = allowed;
  for (int run = 0; run < kRuns; ++run) {
    const double lost = measure(smallest_mix(found, std::max(limit, least), options.cancel));
    if (lost <= allowed && (lost >= kNearEnough * allowed || !(allowed > 0))) break;
    // In proportion to what this one lost; carefully, where that says little.
    limit *= lost > 0 ? std::clamp(allowed / lost, 0.2, 2.0) : 2.0;
  }
  if (!best) {
    Mix mix = best_mix(found, useful_bytes(found), options.cancel);
    const double lost = measure(std::move(mix));
    if (!best) refuse("the best mix of these formats has ", std::exp(floats.nll + lost));
  }
  return *std::move(best);
}

}  // namespace kvant::models
