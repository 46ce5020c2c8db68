#pragma once

/// @file
/// The best formats for the layers of a model under a budget, by their measured sensitivities.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/models/sensitivity.hpp"

namespace kvant::models {

/// A format for each layer, and what it comes to.
struct Mix {
  std::vector<std::size_t> chosen;  ///< for each layer, the number of its format
  std::uint64_t bytes = 0;          ///< of these layers' weights
  double loss = 0;                  ///< the sum of the layers' sensitivities, nats a token
  /// How far `bytes` or `loss`, whichever was to be small, may be above the optimum: a share, as
  /// methods::MultipleChoice::gap().
  double gap = 0;
};

/// The least loss in at most that many bytes, to 0.1 %.
/// @throws Error invalid_argument: fewer than smallest_bytes(), which is named; cancelled
[[nodiscard]] KVANT_API Mix best_mix(const Sensitivities& found, std::uint64_t bytes,
                                     const std::atomic<bool>* cancel = nullptr);
/// The fewest bytes at a loss of at most that many nats, to 0.1 %.
/// @throws Error invalid_argument: less than any mix loses, which is named; cancelled
[[nodiscard]] KVANT_API Mix smallest_mix(const Sensitivities& found, double loss,
                                         const std::atomic<bool>* cancel = nullptr);
/// A mix, and what it is worth.
struct MeasuredMix {
  Mix mix;
  Perplexity result;
};

/// The fewest bytes at a perplexity of at most `most`, as it is measured: what the sum of
/// sensitivities foretells is corrected by what a mix turns out to lose, in up to six runs.
/// @param floats of all layers in float, on the same text
/// @throws Error invalid_argument: less than the floats have, or than the best mix was found to
///         have; as FormatTrials::evaluate
[[nodiscard]] KVANT_API MeasuredMix mix_below(FormatTrials& trials, const Sensitivities& found,
                                              std::span<const TokenId> ids, std::int64_t window,
                                              const Perplexity& floats, double most,
                                              const EvaluateOptions& options = {});

/// All layers in one of the formats, by its number.
[[nodiscard]] KVANT_API Mix uniform_mix(const Sensitivities& found, std::size_t format);

/// Bytes of the smallest mix that there is.
[[nodiscard]] KVANT_API std::uint64_t smallest_bytes(const Sensitivities& found);
/// Bytes of the mix that no more bytes improve.
[[nodiscard]] KVANT_API std::uint64_t useful_bytes(const Sensitivities& found);

/// Of each layer. @throws Error invalid_argument: a mix of another model
[[nodiscard]] KVANT_API std::vector<LayerFormat> formats_of(const Sensitivities& found,
                                                            const Mix& mix);
/// The mix as a plan.
[[nodiscard]] KVANT_API FormatPlan plan_of(const Sensitivities& found, const Mix& mix);

}  // namespace kvant::models
