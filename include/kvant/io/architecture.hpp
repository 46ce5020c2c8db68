#pragma once

/// @file
/// Architectures: what the families of language models call their parts. One table, used by whoever
/// quantizes a checkpoint (which weights are linear layers, which of them stay in float) and by
/// whoever runs a model (which tensor is which).

#include <span>
#include <string>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::io {

/// Names of the linear layers of one block, from the block on: "attn.c_attn". Empty: the family has
/// no such layer.
struct BlockLinears {
  std::string_view qkv = {};  ///< queries, keys and values at once
  std::string_view q = {};
  std::string_view k = {};
  std::string_view v = {};
  std::string_view attention_output = {};
  std::string_view gate = {};  ///< of a gated MLP
  std::string_view up = {};
  std::string_view plain_up = {};  ///< up where the MLP has no gate, if it has another name then
  std::string_view down = {};
  std::string_view cross_q = {};  ///< of attention over an encoder's output, here and below
  std::string_view cross_k = {};
  std::string_view cross_v = {};
  std::string_view cross_output = {};
};

/// One family, by config.json's model_type. Lists are words with one blank between them.
struct Architecture {
  std::string_view model_type;
  std::string_view prefix;  ///< of all tensors but the head's; base models are saved without it
  std::string_view blocks;  ///< block n is PREFIX BLOCKS.n; empty: there are two stacks of them
  BlockLinears linears = {};
  std::string_view decoder_blocks = {};  ///< of two stacks, that of `linears`
  std::string_view encoder_blocks = {};
  BlockLinears encoder_linears = {};
  std::string_view other_linears = {};  ///< last parts of the names of further linear layers
  std::string_view head = {};           ///< the output head's full name; often tied to the tokens
  std::string_view float_linears =
      {};                           ///< last parts: linear layers that transformers keeps in float
  std::string_view tokens = {};     ///< the embedding of tokens, after the prefix
  std::string_view positions = {};  ///< of positions; empty: there is none
  std::string_view other_embeddings = {};  ///< last parts of the names of further embeddings
  bool transposed = false;  ///< linear weights are stored as [in, out] (GPT-2's Conv1D)

  /// Whether transformers keeps this linear layer in float, whatever the others are.
  [[nodiscard]] KVANT_API bool keeps_float(std::string_view layer) const noexcept;
  /// "transformer.h.3.attn.c_attn", or without the prefix.
  [[nodiscard]] KVANT_API std::string linear_name(std::string_view linear, long long block,
                                                  bool with_prefix = true) const;
};

/// All families that kvant knows.
[[nodiscard]] KVANT_API std::span<const Architecture> architectures() noexcept;
/// By model_type; null for one that is not in the table.
[[nodiscard]] KVANT_API const Architecture* find_architecture(std::string_view model_type) noexcept;

}  // namespace kvant::io
