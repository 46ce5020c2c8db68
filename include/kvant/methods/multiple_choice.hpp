#pragma once

/// @file
/// The best choice of one alternative for each of many items under a limit: the multiple-choice
/// knapsack. Which format for each layer, when bytes are limited, or what a model may lose.
///
///     const auto best = kvant::methods::choose_one_of_each(items, 80e6);
///     // best.chosen[i] is the alternative of item i; best.bound says how good it can be at all

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::methods {

/// One way for an item: what it costs, and what it takes of the limit. Any finite numbers.
struct Alternative {
  double cost = 0;
  double weight = 0;
};

/// How choose_one_of_each goes about it.
struct MultipleChoiceOptions {
  /// How far above the optimum the result may be, as a share of the optimum, both counted from the
  /// sum of each item's least cost (so that it means something whatever the costs begin at). 0: the
  /// optimum itself.
  double tolerance = 1e-3;
  /// Partial choices that are kept at a time. Where more are open the least promising are dropped,
  /// and `bound` shows what may have been lost.
  std::int64_t most_states = 50'000;
  const std::atomic<bool>* cancel = nullptr;  ///< set: Error cancelled
};

/// One alternative of each item.
struct MultipleChoice {
  std::vector<std::size_t> chosen;  ///< its number, for each item
  double cost = 0;                  ///< summed
  double weight = 0;
  double bound = 0;  ///< no choice within the limit costs less than this
  double least = 0;  ///< the sum of each item's least cost: what tolerances are counted from

  /// How far above the optimum this may be at most, as a share of it; 0: it is the optimum.
  [[nodiscard]] double gap() const noexcept;
};

/// Makes the sum of costs small while the sum of weights stays within `limit`. Branch and bound
/// over the items, widest first: the bound of a partial choice is the linear relaxation of the rest
/// (its convex hulls, walked by cost saved per weight; Sinha and Zoltners 1979), and of partial
/// choices only those are kept that no other beats in both sums (Pisinger 1995). With thousands of
/// items the relaxation is mostly within the tolerance at once.
/// @throws Error invalid_argument: an item without alternatives, NaN or infinities, a limit below
///         lightest_sum(); cancelled
[[nodiscard]] KVANT_API MultipleChoice
choose_one_of_each(std::span<const std::vector<Alternative>> items, double limit,
                   const MultipleChoiceOptions& options = {});

/// The sum of each item's least weight: the smallest limit that can be kept.
[[nodiscard]] KVANT_API double lightest_sum(std::span<const std::vector<Alternative>> items);
/// The sum of the weights of each item's cheapest alternative: beyond it a limit is none.
[[nodiscard]] KVANT_API double useful_sum(std::span<const std::vector<Alternative>> items);

}  // namespace kvant::methods
