#include "kvant/models/generate.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

/// Rows of logits in memory at a time: a row is as long as the vocabulary.
constexpr std::int64_t kLogitRows = 64;

/// -log softmax(logits)[target], summed in double.
double negative_log_likelihood(std::span<const float> logits, TokenId target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - largest));
  return std::log(sum) + static_cast<double>(largest) -
         static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

}  // namespace

std::vector<TokenId> generate(Context& context, const Model& model, std::span<const TokenId> prompt,
                              std::int64_t tokens, const std::function<void(TokenId)>& on_token) {
  if (prompt.empty()) {
    throw Error(ErrorCode::invalid_argument, "the prompt has no ids");
  }
  const Config& config = model.config;
  Cache cache;
  std::vector<float> hidden = prefill(context, model, prompt, cache);
  std::vector<float> logits(static_cast<std::size_t>(config.vocab_size));
  std::vector<TokenId> result;
  while (static_cast<std::int64_t>(result.size()) < tokens) {
    compute_logits(context, model, {hidden.data(), 1, config.n_embd},
                   {logits.data(), 1, config.vocab_size});
    const auto best = std::max_element(logits.begin(), logits.end());
    const auto next = static_cast<TokenId>(std::distance(logits.begin(), best));
    result.push_back(next);
    if (on_token) on_token(next);
    if (next == config.eos_token_id || cache.length == config.n_positions) break;
    if (static_cast<std::int64_t>(result.size()) == tokens) break;
    hidden = forward(context, model, {&next, 1}, cache);
  }
  return result;
}

Perplexity evaluate(Context& context, const Model& model, std::span<const TokenId> ids,
                    std::int64_t window) {
  const Config& config = model.config;
  if (window < 2 || window > config.n_positions) {
    throw Error(ErrorCode::out_of_range, "a window of " + std::to_string(window) +
                                             " ids is not between 2 and " +
                                             std::to_string(config.n_positions) + " (n_positions)");
  }
  Perplexity result;
  double total = 0;
  const auto step = static_cast<std::size_t>(window);
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += step) {
    const std::span<const TokenId> part = ids.subspan(begin, std::min(step, ids.size() - begin));
    if (part.size() < 2) break;
    Cache cache;
    const std::vector<float> hidden = forward(context, model, part, cache);
    const auto predicted = static_cast<std::int64_t>(part.size()) - 1;
    std::vector<float> logits(
        static_cast<std::size_t>(std::min(kLogitRows, predicted) * config.vocab_size));
    for (std::int64_t t = 0; t < predicted; t += kLogitRows) {
      const std::int64_t rows = std::min(kLogitRows, predicted - t);
      const MatrixView<float> view(logits.data(), rows, config.vocab_size);
      compute_logits(context, model, {hidden.data() + t * config.n_embd, rows, config.n_embd},
                     view);
      for (std::int64_t r = 0; r < rows; ++r) {
        total += negative_log_likelihood(view.row(r), part[static_cast<std::size_t>(t + r + 1)]);
      }
    }
    result.tokens += predicted;
  }
  if (result.tokens == 0) {
    throw Error(ErrorCode::invalid_argument,
                std::to_string(ids.size()) + " ids: nothing to predict");
  }
  result.nll = total / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.nll);
  return result;
}

}  // namespace kvant::models
