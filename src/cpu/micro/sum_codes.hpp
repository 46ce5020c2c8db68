#pragma once

// The sums of activation codes that products of groups begin from, and the pairs of codes that are
// split.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// ActivationSums: rows side by side in the lanes of a vector or of few, as they lie in a block.
template <class S>
void sum_codes(const SumCodesArgs& args) noexcept {
  if constexpr (S::kPairLimit != 0) {
    if (args.kind == ActivationSums::split) return split_pairs<S>(args);
  }
  constexpr int kVectorsOfRows = (S::kRows + S::kLanes - 1) / S::kLanes;
  static_assert(kVectorsOfRows * S::kLanes * kGroupBytes <= kActivationSlack);
  const typename S::I ones = S::set1_i(0x01010101);
  const std::int64_t part = codes_of_part(args.kind);
  alignas(64) std::int32_t words[kVectorsOfRows * S::kLanes];
  for (std::int64_t b = args.block_begin; b < args.block_end; ++b) {
    const std::int64_t first = args.blocks.first(b);
    const int rows = args.blocks.rows(b);
    const auto* a = offset_bytes<std::int8_t>(args.codes, first * args.k_padded);
    std::int32_t* to = args.sums + first * sums_of_row(args.k_padded, args.kind);
    typename S::I running[kVectorsOfRows];
    for (typename S::I& sum : running) sum = S::zero_i();
    for (std::int64_t k = 0; k <= args.k_padded; k += part, to += rows) {
      typename S::I pairs[kVectorsOfRows];
      for (typename S::I& sum : pairs) sum = S::zero_i();
      for (int group = 0; k < args.k_padded && group < part / 4; ++group, a += rows * kGroupBytes) {
        KVANT_UNROLL
        for (int v = 0; v < kVectorsOfRows; ++v) {
          pairs[v] = S::dot16(pairs[v], ones, S::load_b(a + v * S::kLanes * kGroupBytes));
        }
      }
      KVANT_UNROLL
      for (int v = 0; v < kVectorsOfRows; ++v) {
        S::store_i32(words + v * S::kLanes,
                     args.kind == ActivationSums::pairs ? pairs[v] : running[v]);
        running[v] = S::add_i(running[v], S::sum_pairs16(pairs[v]));
      }
      __builtin_memcpy(to, words, static_cast<std::size_t>(rows) * sizeof(*to));
    }
  }
}

}  // namespace
}  // namespace kvant
