#pragma once

// Instructions that sum pairs of products in 16 bits saturate (vpmaddubsw) or wrap (smull) where
// both activations of a pair are large. So pairs whose sum passes the instruction's limit are cut:
// the codes that tiles read keep what is within the limit, what was cut off is listed
// (split_pairs), and add_excess multiplies it by its weights after a tile. The sums are exact for
// all weights.
//
// Rows of real activations have a few such pairs in a thousand, each costs some ten instructions
// for a panel: 2 % of a tile. (Pairs of weights were listed before: sixteen instructions for each
// of the panel's outputs, a tenth of a tile.) Where a row has more of them than its list takes, its
// block stays whole and is multiplied by steps that are exact for any codes, at two thirds to four
// fifths of the speed.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// So few rows wait for memory: they are multiplied by dot_signed, and nothing is split.
inline constexpr int kSignedRows = 2;

/// By which steps a block of rows must be multiplied.
enum class PairSteps : std::int32_t {
  limited,   ///< S::dot: every pair is within the limit
  by_signs,  ///< S::dot_by_signs: no code is -128
  widened,   ///< S::dot_signed
};

/// ActivationSums::split of a row: this, then `count` ExcessWords. All rows of a block have its
/// steps.
struct SplitRow {
  std::int32_t start;  ///< what sums of S::dot lack: -128 * the sum of the row's codes, or 0
  std::int32_t count;
  PairSteps steps;
};
/// What was cut off four codes.
struct ExcessWord {
  std::int32_t group;   ///< of k: k / 4
  std::int32_t excess;  ///< 16 bits for each pair, to multiply by its first weight
};
inline constexpr std::int64_t kSplitRowWords = 4;
inline constexpr std::int64_t kExcessWords = 2;
static_assert(sizeof(SplitRow) <= kSplitRowWords * 4 && sizeof(ExcessWord) == kExcessWords * 4);

/// Cuts what passes the limit in the group of 4 codes. @return whether the row had room for it
inline bool cut_pairs(unsigned char* codes, std::int32_t excess, std::int64_t group,
                      std::int64_t room, SplitRow& row, std::int32_t* list) noexcept {
  if (row.count == room) return false;
  const ExcessWord word{static_cast<std::int32_t>(group), excess};
  __builtin_memcpy(list + row.count++ * kExcessWords, &word, sizeof(word));
  const auto bits = static_cast<std::uint32_t>(excess);
  codes[0] = static_cast<unsigned char>(codes[0] - bits);
  codes[2] = static_cast<unsigned char>(codes[2] - (bits >> 16));
  return true;
}

/// Where some row's list is full, the codes of all become what they were: steps that are exact for
/// them need no lists. @return those: by signs, if no code is -128
inline PairSteps join_pairs(unsigned char* codes, int rows, std::int64_t groups, SplitRow* split,
                            const std::int32_t* sums, std::int64_t words) noexcept {
  for (int r = 0; r < rows; ++r) {
    const std::int32_t* word = sums + r * words + kSplitRowWords;
    for (; split[r].count > 0; --split[r].count, word += kExcessWords) {
      unsigned char* const group = codes + (std::int64_t{word[0]} * rows + r) * 4;
      const auto bits = static_cast<std::uint32_t>(word[1]);
      group[0] = static_cast<unsigned char>(group[0] + bits);
      group[2] = static_cast<unsigned char>(group[2] + (bits >> 16));
    }
  }
  bool least = false;
  for (std::int64_t i = 0; i < groups * rows * 4; ++i) least |= codes[i] == 0x80;
  return least ? PairSteps::widened : PairSteps::by_signs;
}

/// The codes of one block; `words` of sums for each row.
template <class S>
[[gnu::noinline]] void split_block(unsigned char* codes, int rows, std::int64_t groups,
                                   std::int32_t* sums, std::int64_t words) noexcept {
  using R = typename S::Narrow;  // a row to each lane
  constexpr int kVectors = (S::kRows + R::kLanes - 1) / R::kLanes;
  constexpr int kLanesOfRows = kVectors * R::kLanes;
  const std::int64_t room = (words - kSplitRowWords) / kExcessWords;
  const std::uint32_t all_rows = (std::uint32_t{1} << rows) - 1;
  SplitRow split[S::kRows] = {};
  typename R::I totals[kVectors];
  for (typename R::I& total : totals) total = R::zero_i();
  alignas(64) std::int32_t excess[kLanesOfRows];
  alignas(64) unsigned char last[kLanesOfRows * 4];  // what lies behind the block is another's
  for (int i = 0; i < kLanesOfRows * 4; ++i) last[i] = 0;
  bool full = false;
  for (std::int64_t g = 0; g < groups; ++g) {
    unsigned char* const group = codes + g * rows * 4;
    const unsigned char* from = group;
    if ((groups - g) * rows < kLanesOfRows) {
      __builtin_memcpy(last, group, static_cast<std::size_t>(rows) * 4);
      from = last;
    }
    std::uint32_t found = 0;
    typename R::I beyond[kVectors];
    KVANT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const auto* at = reinterpret_cast<const std::int8_t*>(from) + v * R::kBytesB;
      const typename R::I pairs = R::pair_sums(R::load_b(at));
      const typename R::I within = R::within_limit(pairs);
      beyond[v] = R::sub16(pairs, within);
      totals[v] = R::add_i(totals[v], R::sum_pairs16(within));
      found |= R::nonzero_lanes(beyond[v]) << (v * R::kLanes);
    }
    found &= all_rows;
    if (found == 0) continue;
    for (int v = 0; v < kVectors; ++v) R::store_i32(excess + v * R::kLanes, beyond[v]);
    for (; found != 0; found &= found - 1) {
      const int r = __builtin_ctz(found);
      full |= !cut_pairs(group + r * 4, excess[r], g, room, split[r],
                         sums + r * words + kSplitRowWords);
    }
  }
  alignas(64) std::int32_t total[kLanesOfRows];
  for (int v = 0; v < kVectors; ++v) R::store_i32(total + v * R::kLanes, totals[v]);
  const PairSteps steps =
      full ? join_pairs(codes, rows, groups, split, sums, words) : PairSteps::limited;
  for (int r = 0; r < rows; ++r) {
    split[r].steps = steps;
    if (!S::kSignedCodes) {
      split[r].start = static_cast<std::int32_t>(0u - 128u * static_cast<std::uint32_t>(total[r]));
    }
    __builtin_memcpy(sums + r * words, &split[r], sizeof(SplitRow));
  }
}

/// ActivationSums::split of blocks of rows.
template <class S>
void split_pairs(const SumCodesArgs& args) noexcept {
  const std::int64_t words = sums_of_row(args.k_padded, ActivationSums::split);
  for (std::int64_t b = args.block_begin; b < args.block_end; ++b) {
    const std::int64_t first = args.blocks.first(b);
    const int rows = args.blocks.rows(b);
    if (rows <= kSignedRows) continue;
    split_block<S>(static_cast<unsigned char*>(args.codes) + first * args.k_padded, rows,
                   args.k_padded / 4, args.sums + first * words, words);
  }
}

/// The steps of a block, from the sums of its first row.
inline PairSteps steps_of(const std::int32_t* sums) noexcept {
  SplitRow row;
  __builtin_memcpy(&row, sums, sizeof(row));
  return row.steps;
}

/// Adds to the sums of one panel by S::dot what was cut off the activations of a block, and takes
/// away what unsigned weights have too much.
template <class S>
[[gnu::noinline]] void add_excess(const std::int32_t* sums, std::int64_t words, int rows,
                                  const unsigned char* b, std::int32_t* acc,
                                  std::ptrdiff_t acc_stride) noexcept {
  for (int r = 0; r < rows; ++r) {
    const std::int32_t* const row = sums + r * words;
    SplitRow split;
    __builtin_memcpy(&split, row, sizeof(split));
    const typename S::I start = S::set1_i(split.start);
    std::int32_t* const to = acc + r * acc_stride;
    typename S::I total[S::kVectors];
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) {
      total[v] = S::add_i(start, S::load_i32(to + v * S::kLanes));
    }
    const std::int32_t* word = row + kSplitRowWords;
    for (std::int32_t i = 0; i < split.count; ++i, word += kExcessWords) {
      const auto* group = reinterpret_cast<const std::int8_t*>(b) +
                          std::int64_t{word[0]} * (S::kVectors * S::kBytesB);
      const typename S::I excess = S::set1_i(word[1]);
      KVANT_UNROLL
      for (int v = 0; v < S::kVectors; ++v) {
        total[v] = S::dot_even(total[v], excess, S::load_b(group + v * S::kBytesB));
      }
    }
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) S::store_i32(to + v * S::kLanes, total[v]);
  }
}

}  // namespace
}  // namespace kvant
