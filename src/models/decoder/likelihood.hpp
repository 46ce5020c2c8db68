#pragma once

// Logits of many positions, without having them all in memory.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvant/models/model.hpp"

namespace kvant::models {

/// Rows of logits in memory at a time: a row is as long as the vocabulary.
inline constexpr std::int64_t kLogitRows = 64;

/// function(first, logits) for some rows of `hidden` [rows, n_embd] after the other, logits
/// [some, vocab] of the rows from `first` on.
template <class Function>
void for_logits(Context& context, const Model& model, MatrixView<const float> hidden,
                Function&& function) {
  const Config& config = model.config;
  std::vector<float> logits(
      static_cast<std::size_t>(std::min(kLogitRows, hidden.rows()) * config.vocab_size));
  for (std::int64_t t = 0; t < hidden.rows(); t += kLogitRows) {
    const std::int64_t rows = std::min(kLogitRows, hidden.rows() - t);
    const MatrixView<float> view(logits.data(), rows, config.vocab_size);
    compute_logits(context, model, {hidden.row_data(t), rows, config.n_embd}, view);
    function(t, view);
  }
}

}  // namespace kvant::models
