#pragma once

/// @file
/// A whole decoder-only language model of any family: ids in, logits out.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/block.hpp"
#include "kvant/models/cache.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/tokenizer.hpp"
#include "kvant/models/weight_matrix.hpp"

namespace kvant::models {

/// Parameters are public: the loader builds them, forward() only reads them.
struct KVANT_API Model {
  Config config;
  Stream stream = Stream::fp32;
  /// Whether a row's result is the same whatever other rows are in the call; only then may a
  /// prompt be cut into several calls.
  bool rows_are_independent = true;
  WeightMatrix wte;  ///< of tokens, [vocab_size, embedding_size]
  WeightMatrix wpe;  ///< of learned positions, [position_offset + n_positions, n_embd]
  Norm embedding_norm;
  std::unique_ptr<LinearLayer> project_in;  ///< embedding_size -> n_embd; null where they are equal
  std::vector<Block> blocks;
  Norm final_norm;
  std::unique_ptr<LinearLayer> project_out;
  WeightMatrix own_lm_head;  ///< empty: tied to wte

  [[nodiscard]] const WeightMatrix& lm_head() const {
    return own_lm_head.rows() > 0 ? own_lm_head : wte;
  }
  /// Bytes of all parameters as they are held, without padding.
  [[nodiscard]] std::size_t weight_bytes() const;
};

/// h [T, n_embd]: what the first block reads of ids at the positions from `first_position` on.
/// @throws Error out_of_range: an id outside the vocabulary, or a position beyond position_limit()
KVANT_API std::vector<float> embed(Context& context, const Model& model,
                                   std::span<const TokenId> ids, std::int64_t first_position);

/// Runs ids through the model as one call, after the tokens in the cache, which they join.
/// @return the last norm's output [T, n_embd]
/// @throws Error out_of_range as embed(); the cache is untouched then
KVANT_API std::vector<float> forward(Context& context, const Model& model,
                                     std::span<const TokenId> ids, Cache& cache);

/// The same in calls of at most `chunk` tokens where that cannot change the result; returns the
/// last token's row only.
KVANT_API std::vector<float> prefill(Context& context, const Model& model,
                                     std::span<const TokenId> ids, Cache& cache,
                                     std::int64_t chunk = 512);

/// logits [T, vocab] of rows of forward()'s output.
KVANT_API void compute_logits(Context& context, const Model& model, MatrixView<const float> hidden,
                              MatrixView<float> logits);

}  // namespace kvant::models
