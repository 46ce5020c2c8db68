#pragma once

// The sums of activation codes that products with 4-bit weights begin from.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// ActivationSums: rows side by side in a vector's lanes, as they lie in a block.
template <class S>
void sum_codes(const SumCodesArgs& args) noexcept {
  static_assert(S::kRows <= S::kLanes);
  const typename S::I ones = S::set1_i(0x01010101);
  alignas(64) std::int32_t words[S::kLanes];
  for (std::int64_t b = args.block_begin; b < args.block_end; ++b) {
    const std::int64_t first = args.blocks.first(b);
    const int rows = args.blocks.rows(b);
    const auto* a = offset_bytes<std::int8_t>(args.codes, first * args.k_padded);
    std::int32_t* to = args.sums + first * sums_of_row(args.k_padded);
    typename S::I running = S::zero_i();
    for (std::int64_t k = 0; k <= args.k_padded; k += 32, to += rows) {
      typename S::I pairs = S::zero_i();
      for (int group = 0; k < args.k_padded && group < 8; ++group, a += rows * kGroupBytes) {
        pairs = S::dot16(pairs, ones, S::load_b(a));
      }
      S::store_i32(words, args.kind == ActivationSums::pairs ? pairs : running);
      running = S::add_i(running, S::sum_pairs16(pairs));
      __builtin_memcpy(to, words, static_cast<std::size_t>(rows) * sizeof(*to));
    }
  }
}

}  // namespace
}  // namespace kvant
