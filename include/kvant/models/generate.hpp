#pragma once

/// @file
/// What one does with a model: continue or answer a text, fill in what is masked, and measure how
/// well it predicts one.

#include <atomic>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/model.hpp"

namespace kvant::models {

/// How the next id is chosen from its logits.
struct Sampling {
  float temperature = 0.0f;  ///< 0: the largest logit (the lowest id on ties), nothing is drawn
  std::int64_t top_k = 0;    ///< only the k largest; 0: all
  float top_p = 1.0f;        ///< only the largest whose probabilities first reach this sum
  std::uint64_t seed = 0;
};

/// Draws ids. The same seed and the same logits give the same ids.
class KVANT_API Sampler {
 public:
  /// @throws Error invalid_argument: a temperature or top_k below 0, top_p outside (0, 1]
  explicit Sampler(const Sampling& sampling);
  [[nodiscard]] TokenId choose(std::span<const float> logits);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
  std::vector<TokenId> order_;
  std::vector<double> weights_;
};

/// How generate goes about it.
struct GenerateOptions {
  std::int64_t tokens = 64;  ///< at most
  Sampling sampling = {};
  KvFormat kv = KvFormat::fp32;
  bool ignore_eos = false;                      ///< go on after an end token
  std::vector<std::int64_t> more_end_ids = {};  ///< beside the config's
  const std::atomic<bool>* cancel = nullptr;    ///< set: what there is so far is the result
  std::function<void(TokenId)> on_token = {};   ///< each new id as soon as it is known
};

/// Continues `prompt`; of an encoder and a decoder, answers it: the encoder reads the prompt, the
/// decoder begins with decoder_start_id, which is no part of the result. Ends after an end token,
/// which is part of the result, and where the model has no position left for the id that would have
/// to be fed next. Keys and values are allocated once.
/// @throws Error out_of_range for a prompt longer than position_limit(); invalid_argument for an
///         empty one, and as Sampler; unsupported: an encoder alone
KVANT_API std::vector<TokenId> generate(Context& context, const Model& model,
                                        std::span<const TokenId> prompt,
                                        const GenerateOptions& options);

/// Greedy decoding of at most `tokens` ids.
KVANT_API std::vector<TokenId> generate(Context& context, const Model& model,
                                        std::span<const TokenId> prompt, std::int64_t tokens,
                                        const std::function<void(TokenId)>& on_token = {});

/// What may be behind a mask.
struct MaskGuess {
  TokenId id = 0;
  float probability = 0;
};

/// For each place of `mask` in ids, in order: the `count` most likely ids, the best first.
/// @throws Error as encode() and compute_logits(); invalid_argument: no mask, a count below 1
KVANT_API std::vector<std::vector<MaskGuess>> fill_masks(Context& context, const Model& model,
                                                         std::span<const TokenId> ids, TokenId mask,
                                                         std::int64_t count = 5);

/// How well a model foretells a text.
struct Perplexity {
  std::int64_t tokens = 0;  ///< predictions
  double nll = 0;           ///< mean negative log likelihood, natural logarithm
  double perplexity = 0;    ///< exp(nll)
};

/// What evaluate tells while it runs.
struct EvaluateOptions {
  std::function<void(std::int64_t done, std::int64_t of)> progress = {};  ///< ids, after a window
  const std::atomic<bool>* cancel = nullptr;  ///< set: Error cancelled, between two blocks
  KvFormat kv = KvFormat::fp32;
};

/// Consecutive windows of `window` ids, each one call of the model; every id but the first of a
/// window is predicted; the mean is over all predictions.
/// @throws Error invalid_argument (nothing to predict), out_of_range (window), cancelled;
///         unsupported: a model with an encoder
KVANT_API Perplexity evaluate(Context& context, const Model& model, std::span<const TokenId> ids,
                              std::int64_t window, const EvaluateOptions& options = {});

}  // namespace kvant::models
