#include "io/select_budget.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "io/json_sax.hpp"
#include "io/text_table.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
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
      // Bytes grow strictly along the choices, so they are no zero.
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
  for (const LayerPlan& layer : plan.layers) others -= layer.layer.bytes;
  const std::uint64_t smallest = others + totals_of(plan.layers).bytes;
  if (static_cast<double>(smallest) > plan.budget.value) {
    throw Error(ErrorCode::invalid_argument,
                plan.model + ": the smallest plan takes " + std::to_string(smallest) + " bytes (" +
                    bytes_text(smallest) + "), of which " + std::to_string(others) +
                    " are in tensors that stay as they are; the budget is " +
                    number_text(plan.budget.value, 15));
  }
  double left = plan.budget.value - static_cast<double>(smallest);
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
    case BudgetKind::total_sqnr:
      reach_total(plan.layers, plan.budget.value);
      break;
    case BudgetKind::bytes:
      spend_bytes(plan);
      break;
  }
}

Budget parse_budget(std::string_view text, bool total) {
  const auto fail = [&](const char* why) {
    throw Error(ErrorCode::invalid_argument,
                "budget " + in_quotes(text) + why + "; write 40dB, 500MB, 1.5GiB or 123456789");
  };
  Budget budget;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, budget.value);
  if (error != std::errc() || !std::isfinite(budget.value)) fail(": no number");
  std::string unit(rest, end);
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  if (unit == "dB" || unit == "db" || unit == "DB") {
    budget.kind = total ? BudgetKind::total_sqnr : BudgetKind::layer_sqnr;
    return budget;
  }
  if (total) fail(": a total is for decibels");
  struct Unit {
    std::string_view name;
    double bytes;
  };
  constexpr std::array kUnits{Unit{"", 1},         Unit{"B", 1},        Unit{"KB", 1e3},
                              Unit{"kB", 1e3},     Unit{"MB", 1e6},     Unit{"GB", 1e9},
                              Unit{"TB", 1e12},    Unit{"KiB", 0x1p10}, Unit{"MiB", 0x1p20},
                              Unit{"GiB", 0x1p30}, Unit{"TiB", 0x1p40}};
  const auto known =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == unit; });
  if (known == kUnits.end()) fail(": unknown unit");
  if (budget.value <= 0) fail(": no positive number of bytes");
  budget.kind = BudgetKind::bytes;
  budget.value = std::floor(budget.value * known->bytes);
  return budget;
}

}  // namespace kvant::io
