#pragma once

/// @file
/// Split: which share of a model a rank holds. Linear layers are split by outputs: queries, keys
/// and values by heads, the MLP by its inner columns, what leads back to the residual stream by the
/// stream's columns, embeddings and head by the vocabulary. A layer whose input is split gathers it
/// first. So no sum over inputs is ever cut: schemes of integers give the bits of one process, and
/// so do floats but where a share is narrower than a block of them (numerics.md, "Ranks").

#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/models/config.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

/// Rows of embeddings and head that stay together: products of floats are computed in blocks of 64,
/// and 128 share a scale in fp8-block.
inline constexpr std::int64_t kVocabularyUnit = 128;

/// A rank's share of a model.
struct KVANT_API Split {
  Ranks* ranks = nullptr;
  /// What a rank's blocks look like: its heads, its columns of the MLP.
  Config blocks;
  Share heads;       ///< of queries
  Share kv_heads;    ///< those that its queries read; where there are fewer than ranks, several
                     ///< ranks hold the same
  Share inner;       ///< columns inside the MLP
  Share width;       ///< of the residual stream's columns
  Share vocabulary;  ///< rows of embeddings and head
};

/// @throws Error unsupported: heads that these ranks do not divide, more ranks than columns, a norm
///         over all heads at once
[[nodiscard]] KVANT_API Split split_of(const Config& config, Ranks& ranks);

}  // namespace kvant::models
