// The multiple-choice knapsack against trying everything.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kvant/methods/multiple_choice.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace {

using kvant::ErrorCode;
using kvant::methods::Alternative;
using kvant::methods::choose_one_of_each;
using kvant::methods::MultipleChoice;
using kvant::test::code_of;
using Items = std::vector<std::vector<Alternative>>;

/// The least cost of all choices within the limit; infinity: there is none.
double least_cost(const Items& items, double limit) {
  std::vector<std::size_t> choice(items.size(), 0);
  double best = std::numeric_limits<double>::infinity();
  while (true) {
    double cost = 0;
    double weight = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      cost += items[i][choice[i]].cost;
      weight += items[i][choice[i]].weight;
    }
    if (weight <= limit) best = std::min(best, cost);
    std::size_t i = 0;
    while (i < items.size() && ++choice[i] == items[i].size()) choice[i++] = 0;
    if (i == items.size()) return best;
  }
}

/// Items like layers: a few sizes; costs that fall with weight, mostly; some that are below zero.
Items random_items(std::mt19937& random, std::size_t most_items) {
  std::uniform_real_distribution<double> unit(0, 1);
  Items items(1 + random() % most_items);
  const bool whole = random() % 2 == 0;
  for (auto& item : items) {
    item.resize(1 + random() % 5);
    const double size = static_cast<double>(1 + random() % 4);
    const double sensitivity = std::exp(6 * unit(random) - 4);
    for (Alternative& a : item) {
      const double bits = 2 + 6 * unit(random);
      a.weight = whole ? std::floor(size * bits) : size * bits;
      a.cost = sensitivity * std::exp2(-bits) * (0.5 + unit(random)) - 0.01 * unit(random);
    }
  }
  return items;
}

}  // namespace

TEST_CASE("multiple choice: the optimum of many small cases, and within 0.1 % of it") {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> unit(0, 1);
  int impossible = 0;
  for (int round = 0; round < 1000; ++round) {
    const Items items = random_items(random, 7);
    const double lightest = kvant::methods::lightest_sum(items);
    const double useful = kvant::methods::useful_sum(items);
    const double limit = lightest + (1.2 * unit(random) - 0.1) * (useful - lightest);
    const double optimum = least_cost(items, limit);
    CAPTURE(round, limit, optimum);
    if (std::isinf(optimum)) {
      ++impossible;
      CHECK(code_of([&] { (void)choose_one_of_each(items, limit); }) ==
            ErrorCode::invalid_argument);
      continue;
    }
    const MultipleChoice exact = choose_one_of_each(items, limit, {.tolerance = 0});
    CHECK(exact.cost == Approx(optimum).margin(1e-12));
    CHECK(exact.gap() < 1e-9);
    const MultipleChoice near = choose_one_of_each(items, limit);
    CHECK(near.weight <= limit * (1 + 1e-12));
    CHECK(near.cost - near.least <= (optimum - near.least) * 1.001 + 1e-12);
    CHECK(near.bound <= optimum + 1e-12);
    CHECK(near.gap() <= 1.001e-3);
  }
  CHECK(impossible > 20);
}

TEST_CASE("multiple choice: greedy steps are not enough, and are not what is taken") {
  // The best step by cost saved per weight fills the limit; two others together save more.
  const Items items = {{{10, 0}, {0, 6}}, {{9, 0}, {0, 5}}, {{9, 0}, {0, 5}}};
  const MultipleChoice best = choose_one_of_each(items, 10);
  CHECK(best.chosen == std::vector<std::size_t>{0, 1, 1});
  CHECK(best.cost == 10);
}

TEST_CASE("multiple choice: hundreds of layers are solved to 0.1 %, and the bound proves it") {
  std::mt19937 random(3);
  Items items;
  for (int n = 0; n < 60; ++n) {
    for (Items more = random_items(random, 4); auto& item : more) items.push_back(std::move(item));
  }
  const double lightest = kvant::methods::lightest_sum(items);
  const double useful = kvant::methods::useful_sum(items);
  for (const double share : {0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0, 5.0}) {
    const double limit = lightest + share * (useful - lightest);
    const MultipleChoice best = choose_one_of_each(items, limit);
    CAPTURE(share);
    CHECK(best.weight <= limit * (1 + 1e-12));
    CHECK(best.gap() <= 1.001e-3);
    if (share >= 1) CHECK(best.cost == Approx(best.least));
  }
  // With room for one state only the bound says what may be lost.
  const MultipleChoice rough = choose_one_of_each(items, lightest + 0.3 * (useful - lightest),
                                                  {.tolerance = 0, .most_states = 1});
  CHECK(rough.bound <= rough.cost);
}

TEST_CASE("multiple choice: what cannot be chosen from is an error") {
  const auto code = [](const Items& items, double limit) {
    return code_of([&] { (void)choose_one_of_each(items, limit); });
  };
  CHECK(code({{}}, 1) == ErrorCode::invalid_argument);
  CHECK(code({{{NAN, 1}}}, 1) == ErrorCode::invalid_argument);
  CHECK(code({{{1, INFINITY}}}, 1) == ErrorCode::invalid_argument);
  CHECK(code({{{1, 1}}}, NAN) == ErrorCode::invalid_argument);
  CHECK(code({{{1, 2}}}, 1) == ErrorCode::invalid_argument);
  CHECK(choose_one_of_each({}, 0).chosen.empty());
}
