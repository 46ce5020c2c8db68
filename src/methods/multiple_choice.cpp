#include "kvant/methods/multiple_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "kvant/error.hpp"

namespace kvant::methods {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();
/// Sums in another order may differ by this share.
constexpr double kRounding = 1e-12;

/// An alternative that no other of its item beats in both numbers.
struct Candidate {
  double cost = 0;  ///< above the least of the item
  double weight = 0;
  std::size_t number = 0;  ///< in the caller's list
};

/// From one corner of an item's convex hull to the next: dearer in weight, cheaper in cost.
struct Step {
  std::size_t item = 0;
  std::size_t to = 0;  ///< the candidate
  double cost = 0;     ///< saved
  double weight = 0;   ///< added
};

void check(std::span<const std::vector<Alternative>> items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].empty()) {
      throw Error(ErrorCode::invalid_argument,
                  "choose_one_of_each: item " + std::to_string(i) + " has no alternatives");
    }
    for (const Alternative& a : items[i]) {
      if (!std::isfinite(a.cost) || !std::isfinite(a.weight)) {
        throw Error(ErrorCode::invalid_argument,
                    "choose_one_of_each: item " + std::to_string(i) + " has a cost of " +
                        std::to_string(a.cost) + " and a weight of " + std::to_string(a.weight));
      }
    }
  }
}

/// From light and dear to heavy and cheap.
std::vector<Candidate> candidates_of(const std::vector<Alternative>& item) {
  std::vector<Candidate> all;
  for (std::size_t n = 0; n < item.size(); ++n) all.push_back({item[n].cost, item[n].weight, n});
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
  });
  std::vector<Candidate> kept;
  for (const Candidate& each : all) {
    if (kept.empty() || each.cost < kept.back().cost) kept.push_back(each);
  }
  for (Candidate& each : kept) each.cost -= kept.back().cost;
  return kept;
}

/// The corners of the lower convex hull, as steps whose savings per weight fall.
void add_steps(std::size_t item, const std::vector<Candidate>& candidates,
               std::vector<Step>& steps) {
  std::vector<std::size_t> hull;
  const auto slope = [&](std::size_t a, std::size_t b) {
    return (candidates[a].cost - candidates[b].cost) /
           (candidates[b].weight - candidates[a].weight);
  };
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    while (hull.size() > 1 && slope(hull[hull.size() - 2], hull.back()) <= slope(hull.back(), c)) {
      hull.pop_back();
    }
    hull.push_back(c);
  }
  for (std::size_t h = 1; h < hull.size(); ++h) {
    const Candidate& from = candidates[hull[h - 1]];
    const Candidate& to = candidates[hull[h]];
    steps.push_back({item, hull[h], from.cost - to.cost, to.weight - from.weight});
  }
}

/// The items that are not decided yet, relaxed: parts of alternatives may be taken.
class Rest {
 public:
  /// @param first of the items in the order of deciding; steps by falling savings per weight
  Rest(const std::vector<std::vector<Candidate>>& items, const std::vector<Step>& steps,
       std::size_t first) {
    for (std::size_t i = first; i < items.size(); ++i) {
      cost_ += items[i].front().cost;
      weight_ += items[i].front().weight;
    }
    double cost = 0;
    double weight = 0;
    for (const Step& step : steps) {
      if (step.item < first) continue;
      costs_.push_back(cost += step.cost);
      weights_.push_back(weight += step.weight);
    }
  }

  /// All items at their lightest.
  [[nodiscard]] double weight() const { return weight_; }
  /// No choice within `limit` costs less.
  [[nodiscard]] double bound(double limit) const {
    const double room = limit - weight_;
    const auto next = std::upper_bound(weights_.begin(), weights_.end(), room);
    const auto at = static_cast<std::size_t>(next - weights_.begin());
    const double taken = at == 0 ? 0 : costs_[at - 1];
    if (next == weights_.end()) return cost_ - taken;
    const double before = at == 0 ? 0 : weights_[at - 1];
    const double part = std::max(0.0, room - before) / (*next - before);
    return cost_ - taken - part * (costs_[at] - taken);
  }

 private:
  double cost_ = 0;
  double weight_ = 0;
  std::vector<double> costs_;  ///< saved by the steps up to this one
  std::vector<double> weights_;
};

/// A choice for the items so far.
struct State {
  double cost = 0;
  double weight = 0;
  double bound = 0;
  std::uint32_t parent = 0;
  std::uint32_t candidate = 0;
};

class Search {
 public:
  Search(std::span<const std::vector<Alternative>> items, double limit,
         const MultipleChoiceOptions& options)
      : limit_(limit + kRounding * std::abs(limit)), options_(options) {
    std::vector<std::vector<Candidate>> all;
    for (const auto& item : items) all.push_back(candidates_of(item));
    // What can differ most is decided first; the bound of the rest is tight then.
    order_.resize(items.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
      return all[a].front().cost > all[b].front().cost;
    });
    for (const std::size_t item : order_) items_.push_back(std::move(all[item]));
    for (std::size_t i = 0; i < items_.size(); ++i) add_steps(i, items_[i], steps_);
    std::stable_sort(steps_.begin(), steps_.end(), [](const Step& a, const Step& b) {
      return a.cost * b.weight > b.cost * a.weight;
    });
  }

  /// The choice in the order of the caller's items; `bound` above the sum of least costs.
  MultipleChoice run() {
    const Rest all(items_, steps_, 0);
    best_.assign(items_.size(), 0);
    best_cost_ = kUnbounded;
    finish({}, {});
    lowest_dropped_ = kUnbounded;
    std::vector<State> states{{0, 0, all.bound(limit_), 0, 0}};
    const double first_bound = states.front().bound;
    if (is_hopeless(first_bound)) {
      states.clear();
      lowest_dropped_ = first_bound;
    }
    for (std::size_t i = 0; i < items_.size() && !states.empty(); ++i) {
      if (options_.cancel != nullptr && *options_.cancel) {
        throw Error(ErrorCode::cancelled, "interrupted while the best mix was searched");
      }
      states = decide(i, states);
      if (states.empty()) break;
      const auto promising =
          std::min_element(states.begin(), states.end(),
                           [](const State& a, const State& b) { return a.bound < b.bound; });
      finish(choice_of(i + 1, static_cast<std::uint32_t>(promising - states.begin())), *promising);
    }
    MultipleChoice result;
    result.bound = std::min(best_cost_, lowest_dropped_);
    result.chosen.resize(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) {
      result.chosen[order_[i]] = items_[i][best_[i]].number;
    }
    return result;
  }

 private:
  /// What begins with this bound is not worth following.
  [[nodiscard]] bool is_hopeless(double bound) const {
    return bound * (1 + options_.tolerance) >= best_cost_;
  }

  /// All states that decide item i too, without those that another beats or that are hopeless.
  std::vector<State> decide(std::size_t i, const std::vector<State>& states) {
    const Rest rest(items_, steps_, i + 1);
    std::vector<State> next;
    for (std::size_t s = 0; s < states.size(); ++s) {
      for (std::size_t c = 0; c < items_[i].size(); ++c) {
        State state{states[s].cost + items_[i][c].cost, states[s].weight + items_[i][c].weight, 0,
                    static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(c)};
        if (state.weight + rest.weight() > limit_) break;  // candidates become heavier
        state.bound = state.cost + rest.bound(limit_ - state.weight);
        if (is_hopeless(state.bound)) {
          lowest_dropped_ = std::min(lowest_dropped_, state.bound);
        } else {
          next.push_back(state);
        }
      }
    }
    std::sort(next.begin(), next.end(), [](const State& a, const State& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
    });
    std::vector<State> kept;
    for (const State& state : next) {
      if (kept.empty() || state.cost < kept.back().cost) kept.push_back(state);
    }
    // Their choices are remembered too, one for each item.
    constexpr std::int64_t kRemembered = 20'000'000;
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(
        1, std::min(options_.most_states, kRemembered / static_cast<std::int64_t>(items_.size()))));
    if (kept.size() > most) {
      std::sort(kept.begin(), kept.end(),
                [](const State& a, const State& b) { return a.bound < b.bound; });
      lowest_dropped_ = std::min(lowest_dropped_, kept[most].bound);
      kept.resize(most);
    }
    history_.emplace_back();
    for (const State& state : kept) history_.back().push_back({state.parent, state.candidate});
    return kept;
  }

  /// The candidates that led to a state behind `decided` items.
  [[nodiscard]] std::vector<std::uint32_t> choice_of(std::size_t decided,
                                                     std::uint32_t state) const {
    std::vector<std::uint32_t> choice(decided);
    for (std::size_t i = decided; i-- > 0;) {
      choice[i] = history_[i][state].candidate;
      state = history_[i][state].parent;
    }
    return choice;
  }

  /// A whole choice from a beginning: the others as the relaxation has them, rounded down, and what
  /// still fits. The best of these is what states are measured by.
  void finish(const std::vector<std::uint32_t>& beginning, const State& state) {
    std::vector<std::size_t> choice(beginning.begin(), beginning.end());
    choice.resize(items_.size(), 0);
    double cost = state.cost;
    double weight = state.weight;
    for (std::size_t i = beginning.size(); i < items_.size(); ++i) {
      cost += items_[i].front().cost;
      weight += items_[i].front().weight;
    }
    const auto move = [&](std::size_t i, std::size_t to) {
      const double heavier = items_[i][to].weight - items_[i][choice[i]].weight;
      if (to <= choice[i] || weight + heavier > limit_) return;
      weight += heavier;
      cost += items_[i][to].cost - items_[i][choice[i]].cost;
      choice[i] = to;
    };
    for (const Step& step : steps_) {
      if (step.item >= beginning.size()) move(step.item, step.to);
    }
    for (std::size_t i = beginning.size(); i < items_.size(); ++i) {  // off the hull
      for (std::size_t to = items_[i].size(); to-- > choice[i] + 1;) move(i, to);
    }
    if (weight > limit_ || cost >= best_cost_) return;
    best_cost_ = cost;
    best_ = std::move(choice);
  }

  struct Decision {
    std::uint32_t parent;
    std::uint32_t candidate;
  };

  double limit_;
  MultipleChoiceOptions options_;
  std::vector<std::size_t> order_;  ///< of deciding, by the caller's numbers
  std::vector<std::vector<Candidate>> items_;
  std::vector<Step> steps_;
  std::vector<std::vector<Decision>> history_;
  std::vector<std::size_t> best_;
  double best_cost_ = kUnbounded;
  double lowest_dropped_ = kUnbounded;  ///< the lowest bound of a state that was not followed
};

}  // namespace

double MultipleChoice::gap() const noexcept {
  const double above = cost - bound;
  if (!(above > 0)) return 0;
  return bound > least ? above / (bound - least) : kUnbounded;
}

double lightest_sum(std::span<const std::vector<Alternative>> items) {
  check(items);
  double sum = 0;
  for (const auto& item : items) sum += candidates_of(item).front().weight;
  return sum;
}

double useful_sum(std::span<const std::vector<Alternative>> items) {
  check(items);
  double sum = 0;
  for (const auto& item : items) sum += candidates_of(item).back().weight;
  return sum;
}

MultipleChoice choose_one_of_each(std::span<const std::vector<Alternative>> items, double limit,
                                  const MultipleChoiceOptions& options) {
  const double lightest = lightest_sum(items);
  if (std::isnan(limit) || lightest > limit + kRounding * std::abs(limit)) {
    throw Error(ErrorCode::invalid_argument, "choose_one_of_each: the lightest choice weighs " +
                                                 std::to_string(lightest) + ", the limit is " +
                                                 std::to_string(limit));
  }
  if (!(options.tolerance >= 0)) {
    throw Error(ErrorCode::invalid_argument, "choose_one_of_each: the tolerance is " +
                                                 std::to_string(options.tolerance) +
                                                 ", not a number from 0 up");
  }
  MultipleChoice result = Search(items, std::min(limit, useful_sum(items)), options).run();
  double largest = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto [least, most] =
        std::minmax_element(items[i].begin(), items[i].end(),
                            [](const auto& a, const auto& b) { return a.cost < b.cost; });
    result.cost += items[i][result.chosen[i]].cost;
    result.weight += items[i][result.chosen[i]].weight;
    result.least += least->cost;
    largest += std::max(std::abs(least->cost), std::abs(most->cost));
  }
  result.bound += result.least;
  // What is below it by rounding alone is the optimum.
  if (result.cost - result.bound <= kRounding * largest) result.bound = result.cost;
  return result;
}

}  // namespace kvant::methods
