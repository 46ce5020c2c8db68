#pragma once

// GEMM of weights in GroupPanels by int8 activations: for every weight format with a scale for
// groups of 16, 32 or more inputs that is not 4 bits alone (gemm_nibbles.hpp).
//
// Few rows are multiplied where codes are taken apart (decode_groups.hpp). For many, a run of k of
// the panels of a tile is taken apart into bytes, scales and offsets (8 bits are read where they
// lie), in the first-level cache; then every block of rows multiplies it. So formats differ in how
// they are taken apart, once for up to kRowBlocks blocks, and the product is one for all. At the
// end of a group its exact integer sums become floats and are added by one fma with the group's
// scales; where weights have offsets, by another with the sum of the group's activations.
//
// Codes are unsigned bytes below 64, or int8 + 128, and zero is what they have too much: sums begin
// at -zero * (sum of the group's activations). Pairs of bytes below 64 times activations stay far
// within the 16 bits of AVX2 (2 * 63 * 127); 8 bits take the steps that cannot saturate.
//
// Cost beside int8's loop: to take codes apart some five instructions and a store for 32 weights of
// an output, and at the end of a group a conversion, an fma and the sums of a tile in and out of
// the first-level cache.

#include "cpu/micro/decode_groups.hpp"

namespace kvant {
namespace {

/// k that are taken apart together.
inline constexpr int kGroupRun = 128;
/// Blocks of rows that multiply them.
inline constexpr int kRowBlocks = 8;

/// One group of k, or a part of one.
struct GroupTile {
  const unsigned char* a;
  const unsigned char* codes;
  std::ptrdiff_t stride;  ///< from one of the tile's panels to the next: of codes
  const float* scales;
  const float* offsets;         ///< null: none
  std::ptrdiff_t scale_stride;  ///< of scales and offsets
  const std::int32_t* before;   ///< sums of the rows' activations up to the part,
  const std::int32_t* after;    ///< and with it
  const std::int32_t* group;    ///< up to its group
  std::int32_t zero;
  std::int64_t steps;  ///< of 4 k
  bool first, last;    ///< of its group
};

/// The integer sums go to `sums`, [kRows][kPanels * S::kVectors * S::kLanes], from part to part,
/// and with the last one to acc, as floats. A function of its own, never inlined: inside a larger
/// loop nest the accumulators would be spilled.
template <class S, bool kBytes, int kRows, int kPanels>
[[gnu::noinline]] void group_tile(const GroupTile& t, std::int32_t* sums, float* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  const unsigned char* a = t.a;
  const unsigned char* codes = t.codes;
  const std::ptrdiff_t stride = t.stride;
  typename S::I c[kRows][kColumns];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const auto activations = static_cast<std::uint32_t>(t.after[r] - t.before[r]);
    const typename S::I start =
        S::set1_i(static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(t.zero) * activations));
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) c[r][j] = start;
  }
  for (std::int64_t step = t.steps; step > 0; --step) {
    if constexpr (kRows < kColumns) {  // the fewer operands are held, the others pass through
      typename S::I x[kRows];
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) x[r] = S::broadcast_a(a + r * kGroupBytes);
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        const typename S::I w = load_group_operand<S, kBytes>(codes + (j / S::kVectors) * stride +
                                                              (j % S::kVectors) * S::kBytesB);
        KVANT_UNROLL
        for (int r = 0; r < kRows; ++r) c[r][j] = group_dot<S, kBytes>(c[r][j], w, x[r]);
      }
    } else {
      typename S::I w[kColumns];
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        w[j] = load_group_operand<S, kBytes>(codes + (j / S::kVectors) * stride +
                                             (j % S::kVectors) * S::kBytesB);
      }
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const typename S::I x = S::broadcast_a(a + r * kGroupBytes);
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) c[r][j] = group_dot<S, kBytes>(c[r][j], w[j], x);
      }
    }
    a += kRows * kGroupBytes;
    codes += S::kVectors * S::kBytesB;
  }
  if (!t.first || !t.last) {
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        std::int32_t* const to = sums + (r * kColumns + j) * S::kLanes;
        if (!t.first) c[r][j] = S::add_i(c[r][j], S::load_i32(to));
        if (!t.last) S::store_i32(to, c[r][j]);
      }
    }
    if (!t.last) return;
  }
  KVANT_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    const std::ptrdiff_t at = (j / S::kVectors) * t.scale_stride + (j % S::kVectors) * S::kLanes;
    const typename S::F scale = S::load_f32(t.scales + at);
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float* const to = acc + (r * kColumns + j) * S::kLanes;
      S::store_f32(to, S::fma(S::to_f32(c[r][j]), scale, S::load_f32(to)));
    }
    if (t.offsets == nullptr) continue;
    const typename S::F offset = S::load_f32(t.offsets + at);
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float* const to = acc + (r * kColumns + j) * S::kLanes;
      const typename S::F activations = S::set1(static_cast<float>(t.after[r] - t.group[r]));
      S::store_f32(to, S::fma(activations, offset, S::load_f32(to)));
    }
  }
}

template <class S, bool kBytes>
struct GroupTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &group_tile<S, kBytes, kRows, kPanels>;
};

/// What of a run of k shares a scale: a group, or a part of one.
struct GroupPart {
  std::int64_t begin, end;  ///< k
  std::int64_t group;       ///< where its group begins
  std::ptrdiff_t codes;     ///< 8 bits: from the start of a panel
  bool first, last;         ///< of its group
};

/// A run of k of the panels of a tile, taken apart. Goes through all of k without a division.
template <class S>
class GroupRun {
 public:
  static constexpr int kColumns = S::kVectors * S::kLanes;
  static constexpr int kParts = kGroupRun / 16;
  static constexpr int kMostPanels = S::panels(1);

  /// w must outlive it.
  explicit GroupRun(const GroupPanels& w) noexcept
      : w_(w),
        header_(w.header_bytes()),
        unit_bytes_(w.unit_bytes()),
        whole_units_(w.unit <= kGroupRun ? kGroupRun / w.unit * w.unit : 0) {}

  void restart() noexcept {
    k_ = unit_begin_ = group_begin_ = 0;
    unit_at_ = 0;
    group_ = 0;
  }
  /// Takes the next run apart; false: there is none. b: the first panel, `stride` to the next.
  bool next(const unsigned char* b, std::ptrdiff_t stride, int panels) noexcept {
    if (k_ >= w_.k_padded) return false;
    // Whole units, or a part of one that is whole groups or lies within one.
    std::int64_t length = whole_units_ != 0 ? whole_units_ : unit_begin_ + w_.unit - k_;
    if (length > kGroupRun) length = kGroupRun;
    const std::int64_t end = k_ + length < w_.k_padded ? k_ + length : w_.k_padded;
    begin_ = k_;
    for (parts_ = 0; k_ < end; ++parts_) {
      const std::int64_t unit_end =
          unit_begin_ + w_.unit < w_.k_padded ? unit_begin_ + w_.unit : w_.k_padded;
      if (w_.bits != 8 && (parts_ == 0 || k_ == unit_begin_)) {
        const std::int64_t to = unit_end < end ? unit_end : end;
        for (int p = 0; p < panels; ++p) {
          unpack_unit<S>(w_, b + p * stride + unit_at_ + header_, k_ - unit_begin_, to - k_,
                         codes_ + (p * kGroupRun + k_ - begin_) * kColumns);
        }
      }
      take_scales(b + unit_at_, stride, panels);
      const std::int64_t group_end =
          group_begin_ + w_.group < unit_end ? group_begin_ + w_.group : unit_end;
      GroupPart& part = parts[parts_];
      part.begin = k_;
      part.end = group_end < end ? group_end : end;
      part.group = group_begin_;
      part.codes = unit_at_ + header_ + (k_ - unit_begin_) * kColumns;
      part.first = k_ == group_begin_;
      part.last = part.end == group_end;
      k_ = part.end;
      if (!part.last) continue;
      group_begin_ = k_;
      ++group_;
      if (k_ != unit_end) continue;
      unit_begin_ = k_;
      unit_at_ += unit_bytes_;
      group_ = 0;
    }
    return true;
  }
  [[nodiscard]] int count() const noexcept { return parts_; }
  /// Codes of a part, where they do not have 8 bits; kGroupRun * kColumns from panel to panel.
  [[nodiscard]] const unsigned char* codes(const GroupPart& part) const noexcept {
    return codes_ + (part.begin - begin_) * kColumns;
  }
  /// kParts * kColumns from panel to panel.
  [[nodiscard]] const float* scales(int part) const noexcept { return scales_ + part * kColumns; }
  [[nodiscard]] const float* offsets(int part) const noexcept {
    return w_.offsets ? offsets_ + part * kColumns : nullptr;
  }

  GroupPart parts[kParts];

 private:
  void take_scales(const unsigned char* unit, std::ptrdiff_t stride, int panels) noexcept {
    for (int p = 0; p < panels; ++p, unit += stride) {
      const int to = (p * kParts + parts_) * kColumns;
      for (int v = 0; v < kColumns; v += S::kLanes) {
        S::store_f32(scales_ + to + v, group_scale<S>(w_, unit, v, group_));
        if (w_.offsets) S::store_f32(offsets_ + to + v, group_offset<S>(w_, unit, v, group_));
      }
    }
  }

  alignas(64) unsigned char codes_[kMostPanels * kGroupRun * kColumns];
  alignas(64) float scales_[kMostPanels * kParts * kColumns];
  alignas(64) float offsets_[kMostPanels * kParts * kColumns];
  const GroupPanels& w_;
  std::ptrdiff_t header_, unit_bytes_;
  std::int64_t whole_units_;  ///< k of a run of them; 0: a unit is longer than a run
  std::int64_t k_ = 0, begin_ = 0, unit_begin_ = 0, group_begin_ = 0;
  std::ptrdiff_t unit_at_ = 0;
  std::int64_t group_ = 0;  ///< of its unit
  int parts_ = 0;
};

/// The sums of some blocks of rows.
template <class S>
struct GroupSums {
  static constexpr int kSums = S::kMaxAccumulators * S::kLanes;  ///< of a block

  alignas(64) float acc[kRowBlocks * kSums];
  alignas(64) std::int32_t integers[kRowBlocks * kSums];
};

/// All of k: row blocks [begin, end), at most kRowBlocks, times panels.
template <class S>
void multiply_groups(const GemmArgs& g, const Panels& panels, std::int64_t begin, std::int64_t end,
                     GroupRun<S>& run, GroupSums<S>& sums) noexcept {
  using Run = GroupRun<S>;
  const GroupPanels& w = g.groups;
  const RowBlocks blocks{g.range.m, S::kRows};
  const std::int64_t sums_per_row = sums_of_row(w.k_padded, ActivationSums::running16);
  const auto* b = offset_bytes<unsigned char>(g.b, panels.first * w.panel_bytes());
  const std::ptrdiff_t panel_stride = panels.apart * w.panel_bytes();
  const bool bytes = w.bits == 8;
  for (std::int64_t i = 0; i < (end - begin) * GroupSums<S>::kSums; i += S::kLanes) {
    S::store_f32(sums.acc + i, S::set1(0.0f));
  }
  GroupTile t;
  t.stride = bytes ? panel_stride : kGroupRun * Run::kColumns;
  t.scale_stride = Run::kParts * Run::kColumns;
  t.zero = !bytes ? w.zero : S::kSignedCodes ? 0 : 128;
  run.restart();
  while (run.next(b, panel_stride, panels.count)) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t row = blocks.first(block);
      const int rows = blocks.rows(block);
      const bool several = panels.count > 1;
      const auto tile = bytes ? find_tile<S, GroupTiles<S, true>>(rows, several)
                              : find_tile<S, GroupTiles<S, false>>(rows, several);
      const auto* a = offset_bytes<unsigned char>(g.a, row * w.k_padded);
      const std::int32_t* const a_sums = g.a_sums + row * sums_per_row;
      const std::int64_t to = (block - begin) * GroupSums<S>::kSums;
      for (int i = 0; i < run.count(); ++i) {
        const GroupPart& part = run.parts[i];
        t.a = a + part.begin * rows;
        t.codes = bytes ? b + part.codes : run.codes(part);
        t.scales = run.scales(i);
        t.offsets = run.offsets(i);
        t.before = a_sums + part.begin / 16 * rows;
        t.after = a_sums + part.end / 16 * rows;
        t.group = a_sums + part.group / 16 * rows;
        t.steps = (part.end - part.begin) / 4;
        t.first = part.first;
        t.last = part.last;
        tile(t, sums.integers + to, sums.acc + to);
      }
    }
  }
}

template <class S>
void gemm_groups(const GemmArgs& args) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  GemmArgs g = args;
  FoundWeights found(g);
  GroupRun<S> run(g.groups);
  GroupSums<S> sums;
  const TileRange& range = g.range;
  const RowBlocks blocks{range.m, S::kRows};
  const bool few =
      range.block_end - range.block_begin == 1 && blocks.rows(range.block_begin) <= kDecodeRows<S>;
  // Few rows: several panels, a part of the range each, as in walk_tiles.
  const int streams =
      range.block_end - range.block_begin == 1 ? S::panels(blocks.rows(range.block_begin)) : 1;
  const std::int64_t apart = (range.panel_end - range.panel_begin) / streams;
  const std::int64_t rest = (range.panel_end - range.panel_begin) - streams * apart;
  for (std::int64_t t = 0; t < apart + rest; ++t) {
    const bool several = t < apart && streams > 1;
    const Panels panels{range.panel_begin + (several ? t : t + (streams - 1) * apart),
                        several ? streams : 1, apart};
    const DecodeTile tile =
        few ? find_decode_tile<S>(g.groups, blocks.rows(range.block_begin), several) : nullptr;
    for (std::int64_t begin = range.block_begin; begin < range.block_end; begin += kRowBlocks) {
      const std::int64_t end =
          begin + kRowBlocks < range.block_end ? begin + kRowBlocks : range.block_end;
      if (tile != nullptr) {
        decode_groups<S>(g, panels, blocks.first(begin), blocks.rows(begin), tile, sums.acc);
      } else {
        multiply_groups<S>(g, panels, begin, end, run, sums);
      }
      for (int p = 0; p < panels.count; ++p) {
        found.turn_to(panels[p], [&](float* weights) { gather_groups<S>(g, panels[p], weights); });
        for (std::int64_t block = begin; block < end; ++block) {
          group_epilogue<S>(g, sums.acc + (block - begin) * GroupSums<S>::kSums + p * kColumns,
                            std::ptrdiff_t{panels.count} * kColumns, blocks.first(block),
                            blocks.rows(block), panels[p]);
        }
      }
    }
  }
}

template <class S>
constexpr GemmKernels group_kernels() noexcept {
  GemmKernels kernels;
  kernels.activations = ActivationFormat::s8;
  kernels.layout = {.nr = S::kVectors * S::kLanes, .kr = 4, .k_pad = 64, .align = 4 * S::kLanes};
  kernels.mr = S::kRows;
  kernels.group = kGroupBytes;
  kernels.sums = ActivationSums::running16;
  kernels.gemm = &gemm_groups<S>;
  kernels.gather_columns = &gather_group_columns<S>;
  kernels.widen_panel = &widen_groups<S>;
  return kernels;
}

}  // namespace
}  // namespace kvant
