// Choosing the next id.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "kvant/models/generate.hpp"
#include "models/decoder/require_numbers.hpp"

namespace kvant::models {

Sampler::Sampler(const Sampling& sampling) : sampling_(sampling), random_(sampling.seed) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, what);
  };
  if (!(sampling.temperature >= 0 && std::isfinite(sampling.temperature))) {
    refuse("a temperature of " + std::to_string(sampling.temperature) +
           " is not a number from 0 up");
  }
  if (sampling.top_k < 0) {
    refuse("top_k is " + std::to_string(sampling.top_k) + ", not 0 (all) or more");
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    refuse("top_p is " + std::to_string(sampling.top_p) + ", not above 0 and at most 1");
  }
}

TokenId Sampler::choose(std::span<const float> logits) {
  require_numbers(logits);
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (sampling_.temperature == 0.0f) {
    return static_cast<TokenId>(std::distance(logits.begin(), largest));
  }
  // In order of the logits, lower ids first on ties, as far as top_k asks for.
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), TokenId{0});
  const auto before = [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::size_t kept = logits.size();
  if (sampling_.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(sampling_.top_k));
  const auto end = order_.begin() + static_cast<std::ptrdiff_t>(kept);
  std::partial_sort(order_.begin(), end, order_.end(), before);

  weights_.resize(kept);
  double sum = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    const float logit = logits[static_cast<std::size_t>(order_[i])];
    weights_[i] = std::exp(static_cast<double>(logit - *largest) /
                           static_cast<double>(sampling_.temperature));
    sum += weights_[i];
  }
  double reached = 0;
  for (std::size_t i = 0; i < kept && sampling_.top_p < 1.0f; ++i) {
    reached += weights_[i] / sum;
    if (reached >= static_cast<double>(sampling_.top_p)) kept = i + 1;
  }
  sum =
      std::accumulate(weights_.begin(), weights_.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  // 53 bits of the generator: distributions of the standard library differ between libraries.
  double at = static_cast<double>(random_() >> 11) * 0x1.0p-53 * sum;
  for (std::size_t i = 0; i < kept; ++i) {
    at -= weights_[i];
    if (at < 0) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace kvant::models
