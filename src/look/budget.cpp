#include "kvant/look/budget.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::look {

Budget parse_budget(std::string_view text, bool total) {
  const auto fail = [&](const char* why) {
    throw Error(ErrorCode::invalid_argument,
                "budget " + io::in_quotes(text) + why +
                    "; write 40dB, 500MB, 1.5GiB, 123456789 or 4.5bits");
  };
  Budget budget;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, budget.value);
  if (error != std::errc() || !std::isfinite(budget.value)) fail(": not a number");
  std::string unit(rest, end);
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  if (unit == "dB" || unit == "db" || unit == "DB") {
    if (budget.value < 0) fail(": less than 0 dB is more noise than signal");
    budget.kind = total ? BudgetKind::total_sqnr : BudgetKind::layer_sqnr;
    return budget;
  }
  if (total) fail(": a total is for decibels");
  if (unit == "bits" || unit == "bit") {
    if (budget.value <= 0) fail(": not a positive number of bits");
    budget.kind = BudgetKind::bits;
    return budget;
  }
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
  if (budget.value <= 0) fail(": not a positive number of bytes");
  budget.kind = BudgetKind::bytes;
  budget.value = std::floor(budget.value * known->bytes);
  return budget;
}

}  // namespace kvant::look
