#pragma once

// What a token costs a model that ranks share: a model of computing and sending, to be compared
// with what is measured, and to foretell machines and networks that are not here.
//
// Ranks compute their shares at the same time: a token takes the weights of the largest share once
// through the processor. Then they exchange: an all-gather among P ranks takes
//   latency * ceil(log2 P) + what a rank receives / bandwidth.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvant/ranks.hpp"

namespace kvant::bench {

/// What of a decoder decides its cost.
struct DecoderShape {
  std::int64_t layers, width, q_dim, kv_dim, inner, vocabulary;
  bool gated = true;
  double head_bytes = 2;  ///< of an element of embeddings and head

  /// Weights of a layer's linears, a byte each.
  [[nodiscard]] double layer_bytes() const {
    const double attention =
        static_cast<double>(width) * static_cast<double>(2 * q_dim + 2 * kv_dim);
    return attention + static_cast<double>(gated ? 3 : 2) * static_cast<double>(width) *
                           static_cast<double>(inner);
  }
  /// What a token reads: all linears, and the head.
  [[nodiscard]] double token_bytes() const {
    return static_cast<double>(layers) * layer_bytes() +
           static_cast<double>(vocabulary) * static_cast<double>(width) * head_bytes;
  }
};

/// Bytes that a rank gives out for one token, to one other rank.
struct TokenTraffic {
  std::int64_t exchanges = 0;
  std::vector<std::int64_t> parts;  ///< of each rank, all exchanges together

  [[nodiscard]] std::int64_t received(int rank) const {
    std::int64_t sum = 0;
    for (std::size_t r = 0; r < parts.size(); ++r) {
      if (static_cast<int>(r) != rank) sum += parts[r];
    }
    return sum;
  }
};

/// LLM.int8() without outliers: for each layer two row-parallel products (absmax and flags, codes,
/// outputs), and the token's embedding and logits.
inline TokenTraffic token_traffic(const DecoderShape& shape, int ranks) {
  TokenTraffic traffic;
  if (ranks == 1) return {0, {0}};
  const auto widths = share_sizes(shape.width, ranks);
  const auto inner = share_sizes(shape.inner, ranks);
  const auto vocabulary = share_sizes(shape.vocabulary, ranks, 128);
  traffic.exchanges = 1 + 6 * shape.layers + 1;
  for (std::size_t r = 0; r < widths.size(); ++r) {
    const auto row_parallel = [&](std::int64_t inputs) {
      return 4 + (inputs + 7) / 8 + inputs + 4 * widths[r];
    };
    traffic.parts.push_back(4 * shape.width +
                            shape.layers *
                                (row_parallel(shape.q_dim / ranks) + row_parallel(inner[r])) +
                            4 * vocabulary[r]);
  }
  return traffic;
}

/// A network between machines.
struct Link {
  double latency = 0;    ///< seconds of the shortest exchange of two
  double bandwidth = 0;  ///< bytes per second into a machine
};

/// ceil(log2 ranks): steps in which everybody has heard of everybody.
inline int steps_among(std::int64_t ranks) {
  int steps = 0;
  while ((std::int64_t{1} << steps) < ranks) ++steps;
  return steps;
}

/// Seconds of all exchanges of a token.
inline double exchange_seconds(const TokenTraffic& traffic, int ranks, const Link& link) {
  if (ranks == 1) return 0;
  return static_cast<double>(traffic.exchanges) * link.latency * steps_among(ranks) +
         static_cast<double>(traffic.received(0)) / link.bandwidth;
}

/// Seconds of a token: `alone` what one rank with everything takes to compute.
/// @param crowding ranks that share a core: they take turns
inline double token_seconds(const DecoderShape& shape, int ranks, double alone, const Link& link,
                            double crowding = 1) {
  const auto widths = share_sizes(shape.inner, ranks);
  const double share = static_cast<double>(*std::max_element(widths.begin(), widths.end())) /
                       static_cast<double>(shape.inner);
  return alone * share * crowding + exchange_seconds(token_traffic(shape, ranks), ranks, link);
}

}  // namespace kvant::bench
