// What an encoder takes for most likely behind its mask token.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "kvant/models/generate.hpp"
#include "models/decoder/require_numbers.hpp"

namespace kvant::models {
namespace {

std::vector<MaskGuess> best_of(std::span<const float> logits, std::int64_t count) {
  require_numbers(logits);
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), TokenId{0});
  const auto kept = std::min(order.size(), static_cast<std::size_t>(count));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](TokenId a, TokenId b) {
                      const float x = logits[static_cast<std::size_t>(a)];
                      const float y = logits[static_cast<std::size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  const auto largest = static_cast<double>(logits[static_cast<std::size_t>(order.front())]);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  std::vector<MaskGuess> result;
  for (std::size_t i = 0; i < kept; ++i) {
    const auto logit = static_cast<double>(logits[static_cast<std::size_t>(order[i])]);
    result.push_back({order[i], static_cast<float>(std::exp(logit - largest) / sum)});
  }
  return result;
}

}  // namespace

std::vector<std::vector<MaskGuess>> fill_masks(Context& context, const Model& model,
                                               std::span<const TokenId> ids, TokenId mask,
                                               std::int64_t count) {
  if (count < 1) {
    throw Error(ErrorCode::invalid_argument,
                std::to_string(count) + " guesses for each mask; 1 or more are possible");
  }
  if (std::find(ids.begin(), ids.end(), mask) == ids.end()) {
    throw Error(ErrorCode::invalid_argument,
                "no id is the mask (" + std::to_string(mask) + "): there is nothing to fill in");
  }
  const Config& config = model.config;
  const std::vector<float> hidden = encode(context, model, ids);
  std::vector<float> logits(static_cast<std::size_t>(config.vocab_size));
  std::vector<std::vector<MaskGuess>> result;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != mask) continue;
    const float* row = hidden.data() + static_cast<std::ptrdiff_t>(i) * config.n_embd;
    compute_logits(context, model, {row, 1, config.n_embd}, {logits.data(), 1, config.vocab_size});
    result.push_back(best_of(logits, count));
  }
  return result;
}

}  // namespace kvant::models
