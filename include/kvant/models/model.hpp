#pragma once

/// @file
/// A whole language model of any family: ids in, logits out.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/block.hpp"
#include "kvant/models/cache.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/offload.hpp"
#include "kvant/models/split.hpp"
#include "kvant/models/token_table.hpp"
#include "kvant/models/tokenizer.hpp"
#include "kvant/models/weight_matrix.hpp"

namespace kvant::models {

/// What stands between the last block and the head of an encoder.
struct Head {
  std::unique_ptr<LinearLayer> dense;  ///< null: there is no such thing
  Norm norm;
  std::vector<float> bias;  ///< of the head itself, [vocab_size]
};

/// The encoder beside a decoder.
struct Encoder {
  std::vector<Block> blocks;
  std::vector<float> distance_bias;
  Norm final_norm;
};

/// Parameters are public: the loader builds them, forward() only reads them.
struct KVANT_API Model {
  Config config;
  Stream stream = Stream::fp32;
  /// Whether a row's result is the same whatever other rows are in the call; only then may a
  /// prompt be cut into several calls.
  bool rows_are_independent = true;
  TokenTable wte;            ///< [vocab_size, embedding_size]
  WeightMatrix wpe;          ///< of learned positions, [position_offset + n_positions, n_embd]
  WeightMatrix token_types;  ///< [n_token_type, n_embd]
  Norm embedding_norm;
  std::unique_ptr<LinearLayer> project_in;  ///< embedding_size -> n_embd; null where they are equal
  Encoder encoder;                          ///< of ModelKind::encoder_decoder
  std::vector<Block> blocks;
  std::vector<float> distance_bias;  ///< Positions::relative: as in Pass
  Norm final_norm;
  std::unique_ptr<LinearLayer> project_out;
  Head head;
  TokenTable own_lm_head;  ///< empty: tied to wte
  /// What quantizing wte here left of it, 10 log10(sum w^2 / sum error^2); nothing: it is as the
  /// file has it.
  std::optional<double> table_sqnr_db;
  /// Where ranks share the model: what this one holds; wte, own_lm_head and the head's bias have
  /// its part of the vocabulary alone. Null: there is one process, which holds everything.
  std::shared_ptr<const Split> split;
  /// Where the linear layers are; null: no device was asked for.
  std::shared_ptr<const Placement> placement;
  std::int64_t bytes_read = 0;  ///< of tensors, from files, by this process
  /// Layers of a quantized folder that are held in float, though they are not stored so: no weight
  /// format has what they are stored in (zero points of 8 bits, groups of 16, ...).
  std::vector<std::string> expanded;

  /// The description of the blocks as they are here: config, or a rank's share of it.
  [[nodiscard]] const Config& block_config() const { return split ? split->blocks : config; }
  [[nodiscard]] const TokenTable& lm_head() const {
    return own_lm_head.cols() > 0 ? own_lm_head : wte;
  }
  /// Bytes of all parameters as they are held, without padding.
  [[nodiscard]] std::size_t weight_bytes() const;
};

/// h [T, n_embd]: what the first block reads of ids at the positions from `first_position` on.
/// @param token_types of each id, for families that have them; empty: all 0
/// @throws Error out_of_range: an id outside the vocabulary, a position beyond position_limit(), a
///         type that the family does not have; invalid_argument: not as many types as ids
KVANT_API std::vector<float> embed(Context& context, const Model& model,
                                   std::span<const TokenId> ids, std::int64_t first_position,
                                   std::span<const std::int32_t> token_types = {});

/// What an encoder, alone or beside a decoder, makes of a text: a row for each id, which has seen
/// all of them. Of an encoder alone, compute_logits() says what each id was most likely.
/// @return [T, n_embd]
/// @throws Error as embed(); unsupported: a model without an encoder
KVANT_API std::vector<float> encode(Context& context, const Model& model,
                                    std::span<const TokenId> ids,
                                    std::span<const std::int32_t> token_types = {});

/// Encodes the text that a decoder is to see, into an empty cache: what forward() needs first where
/// the model is an encoder and a decoder.
/// @throws Error as encode()
KVANT_API void read_source(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache);

/// Runs ids through the decoder as one call, after the tokens in the cache, which they join.
/// @return the last norm's output [T, n_embd]
/// @throws Error out_of_range as embed(); unsupported: an encoder alone, which has no past;
///         invalid_argument: nothing was read by read_source(). The cache is untouched then.
///         What a layer throws on the way (a device, one that is not calibrated), and cancelled,
///         leaves it empty
KVANT_API std::vector<float> forward(Context& context, const Model& model,
                                     std::span<const TokenId> ids, Cache& cache);

/// The same in calls of at most `chunk` tokens where that cannot change the result; returns the
/// last token's row only.
KVANT_API std::vector<float> prefill(Context& context, const Model& model,
                                     std::span<const TokenId> ids, Cache& cache,
                                     std::int64_t chunk = 512);

/// logits [T, vocab] (on every rank the same) of rows of forward()'s output, or of encode()'s where
/// there is no decoder.
/// @throws Error unsupported: an encoder that was stored without a head
KVANT_API void compute_logits(Context& context, const Model& model, MatrixView<const float> hidden,
                              MatrixView<float> logits);

}  // namespace kvant::models
