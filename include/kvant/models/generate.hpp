#pragma once

/// @file
/// What one does with a model: continue a text, and measure how well it predicts one.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/model.hpp"

namespace kvant::models {

/// Greedy decoding: after `prompt`, at most `tokens` ids, each the one with the largest logit (the
/// lowest on ties). Ends early after eos_token_id, which is part of the result, and where the
/// model has no position left for the id that would have to be fed next.
/// @param on_token called with each new id as soon as it is known
/// @throws Error out_of_range for a prompt longer than n_positions; invalid_argument for an
///         empty one
KVANT_API std::vector<TokenId> generate(Context& context, const Model& model,
                                        std::span<const TokenId> prompt, std::int64_t tokens,
                                        const std::function<void(TokenId)>& on_token = {});

/// How well a model foretells a text.
struct Perplexity {
  std::int64_t tokens = 0;  ///< predictions
  double nll = 0;           ///< mean negative log likelihood, natural logarithm
  double perplexity = 0;    ///< exp(nll)
};

/// Consecutive windows of `window` ids, each one call of the model; every id but the first of a
/// window is predicted; the mean is over all predictions.
/// @throws Error invalid_argument (nothing to predict), out_of_range (window)
KVANT_API Perplexity evaluate(Context& context, const Model& model, std::span<const TokenId> ids,
                              std::int64_t window);

}  // namespace kvant::models
