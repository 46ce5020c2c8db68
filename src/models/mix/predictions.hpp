#pragma once

// What a model foretells of some windows, against the text and against the float model.

#include <cstdint>
#include <vector>

#include "kvant/models/model.hpp"

namespace kvant::models {

/// Means over all foretold ids, in nats.
struct PredictionScore {
  double loss = 0;        ///< negative log-likelihood of the text
  double divergence = 0;  ///< of the predictions from the reference's
};

class Predictions {
 public:
  /// @param keep predictions of the reference are kept, 4 bytes for each word of the vocabulary
  Predictions(Context& context, const Model& model,
              const std::vector<std::vector<TokenId>>& windows, bool keep);

  /// Ids that are foretold.
  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }
  /// The states behind the last block, a window after the other, as the reference.
  PredictionScore set_reference(const std::vector<std::vector<float>>& states);
  /// Of other states. @throws Error not_finite
  [[nodiscard]] PredictionScore score(const std::vector<std::vector<float>>& states) const;

 private:
  /// What the rows of logits of a window are given to.
  template <class Each>
  void for_rows(const std::vector<std::vector<float>>& states, Each&& each) const;

  Context& context_;
  const Model& model_;
  const std::vector<std::vector<TokenId>>& windows_;
  bool keep_;
  std::int64_t tokens_ = 0;
  std::vector<float> probabilities_;  ///< [tokens, vocab]
  std::vector<double> entropies_;     ///< [tokens]: -sum p log p
};

}  // namespace kvant::models
