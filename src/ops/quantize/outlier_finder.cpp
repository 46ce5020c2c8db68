#include "kvant/outlier_finder.hpp"

#include <cmath>
#include <string>

#include "ops/support/border.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using detail::at_border;
using detail::fail;

OutlierFinder::OutlierFinder(std::int64_t inputs, float threshold) : threshold_(threshold) {
  if (inputs < 0 || !(threshold > 0)) {
    fail(ErrorCode::invalid_argument, "OutlierFinder: " + std::to_string(inputs) +
                                          " inputs and threshold " + std::to_string(threshold) +
                                          "; the first must not be negative, the second positive");
  }
  counts_.resize(static_cast<std::size_t>(inputs));
}

void OutlierFinder::observe(ConstAnyMatrix x) {
  constexpr const char* kWho = "OutlierFinder::observe";
  at_border(kWho, [&] {
    detail::check_float(kWho, "x", x);
    if (x.cols != inputs()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": x has " + std::to_string(x.cols) +
                                          " columns, the layer takes " + std::to_string(inputs()) +
                                          " inputs");
    }
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t c = 0; c < x.cols; ++c) {
        const bool outlier = std::fabs(detail::load_float(x, r, c)) >= threshold_;
        counts_[static_cast<std::size_t>(c)] += outlier ? 1 : 0;
      }
    }
    rows_ += x.rows;
  });
}

std::vector<std::int64_t> OutlierFinder::columns(double share) const {
  if (!(share >= 0 && share <= 1)) {
    fail(ErrorCode::invalid_argument,
         "OutlierFinder::columns: the share " + std::to_string(share) + " is not from 0 to 1");
  }
  std::vector<std::int64_t> result;
  for (std::size_t c = 0; c < counts_.size(); ++c) {
    const auto count = static_cast<double>(counts_[c]);
    if (counts_[c] > 0 && count >= share * static_cast<double>(rows_)) {
      result.push_back(static_cast<std::int64_t>(c));
    }
  }
  return result;
}

}  // namespace kvant
