#include "look/choose.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kvant/error.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

/// From the current choice of a layer to a better one.
struct Step {
  std::size_t layer = 0;
  std::size_t choice = 0;
  double error = 0;         ///< taken away
  std::uint64_t bytes = 0;  ///< added
};

/// The step with the most error taken away per byte among those that cost at most `limit` bytes.
std::optional<Step> best_step(const std::vector<LayerPlan>& layers, std::uint64_t limit) {
  std::optional<Step> best;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const SchemeChoice& now = layers[l].choice();
    for (std::size_t c = layers[l].chosen + 1; c < layers[l].choices.size(); ++c) {
      const SchemeChoice& next = layers[l].choices[c];
      const Step step{l, c, now.squared_error - next.squared_error, next.bytes - now.bytes};
      if (step.bytes > limit || !(step.error > 0)) continue;
      // Bytes grow strictly along the choices, so none is zero.
      const auto rate = [](const Step& s) { return s.error / static_cast<double>(s.bytes); };
      if (!best || rate(step) > rate(*best)) best = step;
    }
  }
  return best;
}

struct Totals {
  double signal = 0;
  double error = 0;
  std::uint64_t bytes = 0;
};

Totals totals_of(const std::vector<LayerPlan>& layers) {
  Totals totals;
  for (const LayerPlan& layer : layers) {
    totals.signal += layer.signal;
    totals.error += layer.choice().squared_error;
    totals.bytes += layer.choice().bytes;
  }
  return totals;
}

void reach_total(std::vector<LayerPlan>& layers, double target) {
  const auto reached = [&] {
    const Totals totals = totals_of(layers);
    return sqnr_of(totals.signal, totals.error) >= target;
  };
  while (!reached()) {
    const auto step = best_step(layers, std::numeric_limits<std::uint64_t>::max());
    if (!step) return;  // all are exact
    layers[step->layer].chosen = step->choice;
  }
  // The last steps may have made earlier ones needless.
  for (LayerPlan& layer : layers) {
    while (layer.chosen > 0) {
      --layer.chosen;
      if (reached()) continue;
      ++layer.chosen;
      break;
    }
  }
}

void spend_bytes(SchemePlan& plan) {
  std::uint64_t others = plan.bytes_before;
  std::uint64_t elements = 0;
  for (const LayerPlan& layer : plan.layers) {
    others -= layer.layer.bytes;
    elements += static_cast<std::uint64_t>(layer.layer.elements());
  }
  const double budget = plan.budget.kind == BudgetKind::bytes
                            ? plan.budget.value
                            : static_cast<double>(others) +
                                  std::floor(plan.budget.value * static_cast<double>(elements) / 8);
  const std::uint64_t smallest = others + totals_of(plan.layers).bytes;
  if (static_cast<double>(smallest) > budget) {
    throw Error(ErrorCode::invalid_argument,
                plan.model + ": the smallest plan takes " + std::to_string(smallest) + " bytes (" +
                    bytes_text(smallest) + "), of which " + std::to_string(others) +
                    " are in tensors that stay as they are; the budget is " +
                    number_text(budget, 15));
  }
  double left = budget - static_cast<double>(smallest);
  while (const auto step =
             best_step(plan.layers, static_cast<std::uint64_t>(std::min(left, 9e18)))) {
    plan.layers[step->layer].chosen = step->choice;
    left -= static_cast<double>(step->bytes);
  }
}

}  // namespace

double sqnr_of(double signal, double squared_error) noexcept {
  if (squared_error == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(signal / squared_error);
}

std::vector<SchemeChoice> undominated(std::vector<SchemeChoice> choices) {
  std::erase_if(choices, [](const SchemeChoice& c) { return !std::isfinite(c.squared_error); });
  std::stable_sort(
      choices.begin(), choices.end(), [](const SchemeChoice& a, const SchemeChoice& b) {
        return a.bytes != b.bytes ? a.bytes < b.bytes : a.squared_error < b.squared_error;
      });
  std::vector<SchemeChoice> result;
  for (const SchemeChoice& choice : choices) {
    if (result.empty() || choice.squared_error < result.back().squared_error) {
      result.push_back(choice);
    }
  }
  return result;
}

void choose(SchemePlan& plan) {
  for (LayerPlan& layer : plan.layers) layer.chosen = 0;
  switch (plan.budget.kind) {
    case BudgetKind::layer_sqnr:
      for (LayerPlan& layer : plan.layers) {
        while (layer.chosen + 1 < layer.choices.size() && layer.sqnr_db() < plan.budget.value) {
          ++layer.chosen;
        }
      }
      break;
    case BudgetKind::total_sqnr: reach_total(plan.layers, plan.budget.value); break;
    case BudgetKind::bytes:
    case BudgetKind::bits: spend_bytes(plan); break;
  }
}

}  // namespace kvant::look
