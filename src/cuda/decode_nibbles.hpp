#pragma once

// The product of 4-bit weights for up to 32 rows of activations: as decode.hpp, weights stream past
// once, straight from memory into registers, 16 outputs are the rows of an mma and the activations
// its columns. Warps share K here too, but sums of groups are added as floats, in ascending order:
// each warp leaves the integer sums of its chunks in shared memory, a slot for each stretch of k
// that lies in one group. When K has passed, or the room is full, all threads make floats of them,
// and then one thread for each output adds up its groups.
//
// Zero points are taken from the sums there: sum(code * a) - zero * sum(a).

#include "cuda/epilogue.hpp"
#include "cuda/nibble_codes.hpp"

namespace kvant {
namespace {

/// @tparam kRowTiles  of 8 activations
/// @tparam kChunks    of a warp that are on their way
template <int kRowTiles, int kChunks>
struct NibbleDecodeTile {
  static constexpr int kTiles = kRowTiles, kUnroll = kChunks;
  static constexpr int kWarps = 8, kThreads = kWarps * 32;
  /// Of a processor. (Code for sm_8x takes some registers more than four blocks have.)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocks = kTiles == 1 ? 3 : 2;
#else
  static constexpr int kBlocks = kTiles == 1 ? 4 : 2;
#endif
  static constexpr int kOutputs = 16;             ///< of a block
  static constexpr int kStep = kWarps * kUnroll;  ///< chunks that are on their way
  static constexpr int kSumsOfThread = kTiles > 2 ? kTiles / 2 : 1;
  // Strides in shared memory that keep lanes in different banks.
  static constexpr int kRowWords = kOutputs + 4;
  static constexpr int kScaleWords = kOutputs + 1;
  static constexpr int kZeroBytes = kOutputs + 4;
};

/// How a product is cut; the launch tells the kernel, since it knows the shared memory.
struct NibbleCut {
  /// What a pass takes of shared memory where it can be chosen, which four blocks of a processor
  /// have; Tile::kStep chunks in small groups take up to 75 KiB.
  static constexpr int kPassBytes = 48 << 10;

  int shift;   ///< the slots of a chunk as a power of two: each sums k of one group
  bool whole;  ///< slots are groups, not parts of some
  int chunks;  ///< of a pass: a multiple of Tile::kStep, or all
  int slots;   ///< of a pass
  int bytes;   ///< of a pass

  KVANT_DEVICE int span() const { return kNibbleChunk >> shift; }

  static int shift_of(std::int64_t group) noexcept {
    return group % 128 == 0 ? 0 : group % 64 == 0 ? 1 : 2;
  }
  template <class Tile>
  static NibbleCut of(const GemmArgs& g) noexcept {
    const int shift = shift_of(g.nibbles.group);
    const auto rows = static_cast<int>(g.range.m);
    const auto all = static_cast<int>(g.range.k_padded / kNibbleChunk);
    const int of_slot = (rows * (Tile::kRowWords + 1) + Tile::kScaleWords) * 4 + Tile::kZeroBytes;
    const int of_chunk = rows * kNibbleChunk + (of_slot << shift);
    const int steps = kPassBytes / (Tile::kStep * of_chunk);
    int chunks = (steps > 0 ? steps : 1) * Tile::kStep;
    if (chunks > all) chunks = all;
    return {shift, g.nibbles.group == kNibbleChunk >> shift, chunks, chunks << shift,
            chunks * of_chunk};
  }
};

/// Where a pass's things lie in shared memory: activations at first.
template <class Tile>
struct NibblePass {
  std::int32_t* sums;    ///< [slots][rows][kRowWords]; floats, once they are made
  std::int32_t* a_sums;  ///< [slots][rows], of the activations
  float* scales;         ///< [slots][kScaleWords]
  unsigned char* zeros;  ///< [slots][kZeroBytes]

  KVANT_DEVICE static NibblePass of(const NibbleCut& cut, int rows) {
    auto* const sums =
        reinterpret_cast<std::int32_t*>(device::shared_memory() + rows * cut.chunks * kNibbleChunk);
    std::int32_t* const a_sums = sums + cut.slots * rows * Tile::kRowWords;
    auto* const scales = reinterpret_cast<float*>(a_sums + cut.slots * rows);
    return {sums, a_sums, scales,
            reinterpret_cast<unsigned char*>(scales + cut.slots * Tile::kScaleWords)};
  }
};

/// Scales and zeros of a pass's slots, a warp an output. @param first  slot, of all K
template <class Tile, class Codes>
KVANT_DEVICE void stage_nibble_scales(const GemmArgs& g, const NibbleCut& cut, std::int64_t n0,
                                      int first, int slots, const NibblePass<Tile>& pass) {
  const NibbleRows rows = NibbleRows::of(g);  // (again: kept, it would take registers)
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int output = static_cast<int>(threadIdx.x) / 32; output < Tile::kOutputs;
       output += Tile::kWarps) {
    const std::int64_t n = n0 + output;
    const unsigned char* const row = rows.row(n < g.range.n ? n : g.range.n - 1);
    for (int slot = lane; slot < slots; slot += 32) {
      const std::uint32_t group = cut.whole ? static_cast<std::uint32_t>(first + slot)
                                            : rows.group_of((first + slot) * cut.span());
      pass.scales[slot * Tile::kScaleWords + output] =
          Codes::product_scale(Codes::scale(rows.scale(row, group)));
      if constexpr (Codes::kZero != 0) {
        pass.zeros[slot * Tile::kZeroBytes + output] =
            static_cast<unsigned char>(rows.zero(row, group, Codes::kZero));
      }
    }
  }
}

/// Codes of activations of a pass, as ldmatrix takes them. @param a  of the pass's first k
KVANT_DEVICE void stage_nibble_activations(const std::int8_t* a, std::int64_t a_bytes, int rows,
                                           int row_chunks, int chunks, int warps) {
  const std::uint32_t to = device::shared_address(device::shared_memory());
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += warps) {
    for (int piece = lane; piece < chunks * 8; piece += 32) {
      device::copy_async_16(
          to + static_cast<std::uint32_t>((row * row_chunks + piece / 8) * kNibbleChunk +
                                          swizzled_piece(row, piece % 8)),
          a + row * a_bytes + piece * 16, 16);
    }
  }
  device::copy_async_commit();
}

/// The sums of a chunk into its slots. @param x  its activations in shared memory, of row 0
template <class Tile, class Codes>
KVANT_DEVICE void multiply_nibble_chunk(const device::Words4 (&codes)[2], std::uint32_t x,
                                        int x_bytes, int rows, int shift, int slot,
                                        const NibblePass<Tile>& pass) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4, part = lane % 4;
  std::int32_t c[Tile::kTiles][4] = {}, a_sum[Tile::kTiles] = {};
  std::uint32_t b[Tile::kTiles][4];  // of two runs
#pragma unroll
  for (int run = 0; run < 4; ++run) {
    if (run % 2 == 0) {
#pragma unroll
      for (int t = 0; t < Tile::kTiles; ++t) {
        // Columns of activations that are not there repeat the last: nobody asks for their sums.
        const int wanted = t * 8 + lane % 8, m = wanted < rows ? wanted : rows - 1;
        device::load_matrix_x4(b[t], x + static_cast<std::uint32_t>(
                                             m * x_bytes + swizzled_piece(m, run * 2 + lane / 8)));
      }
    }
    const NibblePair upper = Codes::with_zero(codes[0].w[run]);
    const NibblePair lower = Codes::with_zero(codes[1].w[run]);
    const std::uint32_t a[4] = {upper.low, lower.low, upper.high, lower.high};
#pragma unroll
    for (int t = 0; t < Tile::kTiles; ++t) {
      const std::uint32_t b0 = b[t][run % 2 * 2], b1 = b[t][run % 2 * 2 + 1];
      device::mma_s8(c[t], a, b0, b1);
      if constexpr (Codes::kZero != 0) {
        a_sum[t] = device::dot_s8(b0, 0x01010101u, device::dot_s8(b1, 0x01010101u, a_sum[t]));
      }
    }
    if (((run + 1) & (3 >> shift)) != 0) continue;  // the slot goes on
#pragma unroll
    for (int t = 0; t < Tile::kTiles; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int m = t * 8 + part * 2 + e % 2;
        if (m < rows) pass.sums[(slot * rows + m) * Tile::kRowWords + row + e / 2 * 8] = c[t][e];
        c[t][e] = 0;
      }
      if constexpr (Codes::kZero != 0) {
        auto of_row = static_cast<std::uint32_t>(a_sum[t]);  // a quarter of it
        of_row += device::shuffle_xor(of_row, 1);
        of_row += device::shuffle_xor(of_row, 2);
        if (part == 0 && t * 8 + row < rows) {
          pass.a_sums[slot * rows + t * 8 + row] = static_cast<std::int32_t>(of_row);
        }
        a_sum[t] = 0;
      }
    }
    ++slot;
  }
}

/// Takes the zeros from a pass's sums; those that are of whole groups become floats.
template <class Tile, class Codes>
KVANT_DEVICE void finish_nibble_sums(const NibblePass<Tile>& pass, int slots, int rows,
                                     bool whole_groups) {
  for (int i = static_cast<int>(threadIdx.x); i < slots * Tile::kOutputs; i += Tile::kThreads) {
    const int slot = i / Tile::kOutputs, output = i % Tile::kOutputs;
    std::uint32_t zero = 0;
    if constexpr (Codes::kZero != 0) zero = pass.zeros[slot * Tile::kZeroBytes + output];
    for (int m = 0; m < rows; ++m) {
      std::int32_t& at = pass.sums[(slot * rows + m) * Tile::kRowWords + output];
      auto sum = static_cast<std::uint32_t>(at);
      if constexpr (Codes::kZero != 0) {
        sum -= zero * static_cast<std::uint32_t>(pass.a_sums[slot * rows + m]);
      }
      const auto integer = static_cast<std::int32_t>(sum);
      at = whole_groups ? static_cast<std::int32_t>(device::float_bits(static_cast<float>(integer)))
                        : integer;
    }
  }
}

/// The running sum of one output and row of activations.
struct NibbleSum {
  float sum = 0.0f;
  std::uint32_t integers = 0;  ///< of the group so far; wraps, as the products do
  int left;                    ///< k of the group that are to come

  /// Adds a pass whose slots are groups, which are floats already.
  /// @param stride  words from slot to slot
  template <class Tile>
  KVANT_DEVICE void add_groups(const std::int32_t* sums, int stride, const float* scales,
                               int slots) {
#pragma unroll 8
    for (int s = 0; s < slots; ++s) {
      sum = device::fused_multiply_add(
          device::bits_float(static_cast<std::uint32_t>(sums[s * stride])),
          scales[s * Tile::kScaleWords], sum);
    }
  }
  /// Adds a pass whose slots are parts of groups. @param last  K ends with them
  template <class Tile>
  KVANT_DEVICE void add_parts(const std::int32_t* sums, int stride, const float* scales, int slots,
                              int span, int group, bool last) {
    for (int s = 0; s < slots; ++s) {
      integers += static_cast<std::uint32_t>(sums[s * stride]);
      left -= span;
      if (left > 0 && !(last && s == slots - 1)) continue;
      sum = device::fused_multiply_add(static_cast<float>(static_cast<std::int32_t>(integers)),
                                       scales[s * Tile::kScaleWords], sum);
      integers = 0;
      left = group;
    }
  }
};

template <class Tile, class Codes>
KVANT_KERNEL(Tile::kThreads, Tile::kBlocks)
decode_nibbles_kernel(KVANT_CONSTANT GemmLaunch launch, NibbleCut cut) {
  const GemmArgs& g = launch.args;
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32, warp = thread / 32;
  const std::int64_t n0 = std::int64_t{blockIdx.x} * Tile::kOutputs;
  const NibbleRows rows = NibbleRows::of(g);
  const unsigned char* weights[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t n = n0 + half * 8 + lane / 4;
    weights[half] = rows.row(n < g.range.n ? n : g.range.n - 1) + lane % 4 * 16;
  }
  const auto m_count = static_cast<int>(g.range.m);
  const auto* const x = static_cast<const std::int8_t*>(g.a);
  const auto chunks = static_cast<int>(g.range.k_padded / kNibbleChunk);
  const auto group = static_cast<int>(g.nibbles.group);
  const std::uint32_t x_at = device::shared_address(device::shared_memory());
  const int x_bytes = cut.chunks * kNibbleChunk;  // of a row there
  const NibblePass<Tile> pass = NibblePass<Tile>::of(cut, m_count);

  device::Words4 codes[Tile::kUnroll][2] = {};
  const auto load = [&](device::Words4(&to)[2], int chunk) {
    if (chunk >= chunks) return;
    to[0] = device::load_stream(weights[0] + chunk * 64);
    to[1] = device::load_stream(weights[1] + chunk * 64);
  };
  device::let_next_kernel_start();
#pragma unroll
  for (int u = 0; u < Tile::kUnroll; ++u) load(codes[u], warp + u * Tile::kWarps);
  NibbleSum sums[Tile::kSumsOfThread];
#pragma unroll
  for (NibbleSum& sum : sums) sum.left = group;

  for (int first = 0; first < chunks; first += cut.chunks) {
    const int left = chunks - first, count = left < cut.chunks ? left : cut.chunks;
    const int slots = count << cut.shift;
    stage_nibble_scales<Tile, Codes>(g, cut, n0, first << cut.shift, slots, pass);
    if (first == 0) device::wait_for_previous_kernel();  // which makes the activations
    stage_nibble_activations(x + std::int64_t{first} * kNibbleChunk, g.range.k_padded, m_count,
                             cut.chunks, count, Tile::kWarps);
    device::copy_async_wait<0>();
    device::block_barrier();  // activations and scales are there
    for (int base = warp; base < count; base += Tile::kStep) {
#pragma unroll
      for (int u = 0; u < Tile::kUnroll; ++u) {
        const int chunk = base + u * Tile::kWarps;
        if (chunk < count) {
          multiply_nibble_chunk<Tile, Codes>(
              codes[u], x_at + static_cast<std::uint32_t>(chunk * kNibbleChunk), x_bytes, m_count,
              cut.shift, chunk << cut.shift, pass);
        }
        load(codes[u], first + chunk + Tile::kStep);
      }
    }
    device::block_barrier();  // all sums of the pass are there
    finish_nibble_sums<Tile, Codes>(pass, slots, m_count, cut.whole);
    device::block_barrier();  // and without their zeros
#pragma unroll
    for (int i = 0; i < Tile::kSumsOfThread; ++i) {
      const int at = thread + i * Tile::kThreads, m = at / Tile::kOutputs;
      if (m >= m_count) continue;
      const int output = at % Tile::kOutputs;
      const std::int32_t* const of_sum = pass.sums + m * Tile::kRowWords + output;
      const int stride = m_count * Tile::kRowWords;
      if (cut.whole) {
        sums[i].template add_groups<Tile>(of_sum, stride, pass.scales + output, slots);
      } else {
        sums[i].template add_parts<Tile>(of_sum, stride, pass.scales + output, slots, cut.span(),
                                         group, first + count == chunks);
      }
    }
    if (first + count < chunks) device::block_barrier();  // all of it has been used
  }
  if (chunks == 0) device::wait_for_previous_kernel();
  const std::int64_t features = count_of_features(launch.args);
#pragma unroll
  for (int i = 0; i < Tile::kSumsOfThread; ++i) {
    const int at = thread + i * Tile::kThreads, m = at / Tile::kOutputs;
    const std::int64_t n = n0 + at % Tile::kOutputs;
    if (m >= m_count || n >= g.range.n) continue;
    float outliers = 0.0f;
    for (std::int64_t f = 0; f < features; ++f) {
      outliers = device::fused_multiply_add(feature_activation(launch.args, f, m),
                                            feature_weight<NibbleWeights<Codes>>(launch.args, f, n),
                                            outliers);
    }
    store_result(g.epilogue, m, n, sums[i].sum, features > 0, outliers);
  }
}

using NibbleDecode8 = NibbleDecodeTile<1, 2>;
using NibbleDecode16 = NibbleDecodeTile<2, 1>;
using NibbleDecode32 = NibbleDecodeTile<4, 1>;

/// Rows that a call can have: in groups of 32 the sums of more have no room.
inline std::int64_t decode_nibble_rows(std::int64_t group) noexcept {
  return NibbleCut::shift_of(group) == 2 ? 16 : 32;
}

template <class Tile, class Codes>
void launch_decode_nibble_tile(const GemmLaunch& g, void* queue) {
  const NibbleCut cut = NibbleCut::of<Tile>(g.args);
  const std::int64_t blocks = (g.args.range.n + Tile::kOutputs - 1) / Tile::kOutputs;
  device::launch({.grid = {static_cast<int>(blocks), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = cut.bytes,
                  .queue = queue},
                 &decode_nibbles_kernel<Tile, Codes>, g, cut);
}

/// @param g  of decode_nibble_rows() rows at most
template <class Codes>
void launch_decode_nibbles(const GemmLaunch& g, void* queue) {
  const std::int64_t m = g.args.range.m;
  if (m <= 8) return launch_decode_nibble_tile<NibbleDecode8, Codes>(g, queue);
  if (m <= 16) return launch_decode_nibble_tile<NibbleDecode16, Codes>(g, queue);
  launch_decode_nibble_tile<NibbleDecode32, Codes>(g, queue);
}

}  // namespace
}  // namespace kvant
