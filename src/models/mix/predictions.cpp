#include "models/mix/predictions.hpp"

#include <cmath>

#include "kvant/error.hpp"
#include "models/decoder/likelihood.hpp"
#include "models/decoder/rows.hpp"

namespace kvant::models {
namespace {

/// log(sum exp(logits)).
double log_sum(ConstArrayMap logits) {
  const float largest = logits.maxCoeff();
  return static_cast<double>(largest) +
         std::log(static_cast<double>((logits - largest).exp().sum()));
}

}  // namespace

Predictions::Predictions(Context& context, const Model& model,
                         const std::vector<std::vector<TokenId>>& windows, bool keep)
    : context_(context), model_(model), windows_(windows), keep_(keep) {
  for (const auto& window : windows_) tokens_ += static_cast<std::int64_t>(window.size()) - 1;
  if (!keep_) return;
  probabilities_.resize(static_cast<std::size_t>(tokens_ * model.config.vocab_size));
  entropies_.resize(static_cast<std::size_t>(tokens_));
}

template <class Each>
void Predictions::for_rows(const std::vector<std::vector<float>>& states, Each&& each) const {
  const Config& config = model_.config;
  std::int64_t before = 0;
  std::vector<float> normed;
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    const auto rows = static_cast<std::int64_t>(windows_[w].size()) - 1;
    normed.assign(states[w].begin(), states[w].begin() + rows * config.n_embd);
    const MatrixView<float> hidden(normed.data(), rows, config.n_embd);
    if (!model_.final_norm.empty()) {
      normalize(context_, config, hidden, model_.final_norm, model_.stream, hidden);
    }
    for_logits(context_, model_, hidden, [&](std::int64_t first, MatrixView<float> logits) {
      by_rows(context_, logits.rows(), kExpCost * logits.size(),
              [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t r = begin; r < end; ++r) {
                  const auto target = static_cast<std::size_t>(first + r + 1);
                  each(before + first + r, ConstArrayMap(logits.row_data(r), logits.cols()),
                       windows_[w][target]);
                }
              });
    });
    before += rows;
  }
}

PredictionScore Predictions::set_reference(const std::vector<std::vector<float>>& states) {
  const std::int64_t words = model_.config.vocab_size;
  std::vector<double> losses(static_cast<std::size_t>(tokens_));
  for_rows(states, [&](std::int64_t token, ConstArrayMap logits, TokenId target) {
    const auto at = static_cast<std::size_t>(token);
    const double sum = log_sum(logits);
    losses[at] = sum - static_cast<double>(logits[target]);
    if (!keep_) return;
    ArrayMap p(probabilities_.data() + token * words, words);
    p = (logits - static_cast<float>(sum)).exp();
    entropies_[at] = sum - (p.cast<double>() * logits.cast<double>()).sum();
  });
  PredictionScore mean;
  for (const double loss : losses) mean.loss += loss / static_cast<double>(tokens_);
  if (!std::isfinite(mean.loss)) {
    throw Error(ErrorCode::not_finite,
                "the model itself foretells NaN or infinities on this text; nothing can be "
                "measured against that");
  }
  return mean;
}

PredictionScore Predictions::score(const std::vector<std::vector<float>>& states) const {
  const std::int64_t words = model_.config.vocab_size;
  std::vector<PredictionScore> each(static_cast<std::size_t>(tokens_));
  for_rows(states, [&](std::int64_t token, ConstArrayMap logits, TokenId target) {
    const auto at = static_cast<std::size_t>(token);
    const double sum = log_sum(logits);
    each[at].loss = sum - static_cast<double>(logits[target]);
    if (!keep_) return;
    const ConstArrayMap p(probabilities_.data() + token * words, words);
    // sum p log(p / q), of which log q = logit - sum.
    const double expected = (p.cast<double>() * logits.cast<double>()).sum();
    each[at].divergence = sum - expected - entropies_[at];
  });
  PredictionScore mean;
  for (const PredictionScore& one : each) {
    mean.loss += one.loss / static_cast<double>(tokens_);
    mean.divergence += one.divergence / static_cast<double>(tokens_);
  }
  return mean;
}

}  // namespace kvant::models
