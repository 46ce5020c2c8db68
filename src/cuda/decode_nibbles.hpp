#pragma once

// The product of 4-bit weights for up to 8 rows of activations: as decode.hpp, weights stream past
// once, straight from memory into registers, 16 outputs are the rows of an mma and the activations
// its columns. Warps share K here too, but sums of groups are added as floats, in ascending order:
// each warp leaves the integer sums of its chunks in shared memory, a slot for each stretch of k
// that lies in one group, and some threads add up what a pass of all warps has made, while the
// weights of the next pass are on their way.
//
// Zero points are taken from the sums there: sum(code * a) - zero * sum(a), where sum(a) is one
// product more, by a matrix of ones.

#include "cuda/epilogue.hpp"
#include "cuda/nibble_codes.hpp"

namespace kvant {
namespace {

struct NibbleDecode {
  static constexpr int kWarps = 8, kThreads = kWarps * 32;
  static constexpr int kOutputs = 16;              ///< of a block
  static constexpr int kRows = 8;                  ///< of activations, at most
  static constexpr int kUnroll = 2;                ///< chunks of a warp in a pass, at most
  static constexpr int kRowStride = kOutputs + 4;  ///< words: no two rows in one bank
};

/// How a product is cut; the launch tells the kernel, since it knows the shared memory.
struct NibbleCut {
  int span;    ///< k that a slot sums: all in one group
  int unroll;  ///< chunks of a warp in a pass: fewer where slots are many
  int slots;   ///< of a pass
  int words;   ///< of a pass in shared memory

  static NibbleCut of(const GemmArgs& g) {
    const std::int64_t group = g.nibbles.group, chunks = g.range.k_padded / kNibbleChunk;
    const int span = group % 128 == 0 ? 128 : group % 64 == 0 ? 64 : 32;
    const int unroll = span == 32 ? 1 : NibbleDecode::kUnroll;
    const int most = NibbleDecode::kWarps * unroll;
    const int slots = (chunks < most ? static_cast<int>(chunks) : most) * (kNibbleChunk / span);
    const int words_of_slot = static_cast<int>(g.range.m) * NibbleDecode::kRowStride +
                              NibbleDecode::kRows + 2 * NibbleDecode::kOutputs;
    return {span, unroll, slots, slots * words_of_slot};
  }
};

/// What a pass leaves in shared memory. Two passes have room.
struct NibblePass {
  std::int32_t* sums;    ///< [slots][rows][kRowStride]
  std::int32_t* a_sums;  ///< [slots][kRows], of the activations
  float* scales;         ///< [slots][kOutputs]
  std::uint32_t* zeros;  ///< [slots][kOutputs]

  KVANT_DEVICE static NibblePass at(int pass, const NibbleCut& cut, int rows) {
    auto* const sums =
        reinterpret_cast<std::int32_t*>(device::shared_memory()) + pass % 2 * cut.words;
    std::int32_t* const a_sums = sums + cut.slots * rows * NibbleDecode::kRowStride;
    auto* const scales = reinterpret_cast<float*>(a_sums + cut.slots * NibbleDecode::kRows);
    return {sums, a_sums, scales,
            reinterpret_cast<std::uint32_t*>(scales + cut.slots * NibbleDecode::kOutputs)};
  }
};

/// Scales and zeros of a pass's slots. @param first_k  of the pass  @param there  slots with any k
template <class Codes>
KVANT_DEVICE void stage_nibble_scales(const GemmArgs& g, const NibbleRows& rows, std::int64_t n0,
                                      int first_k, int span, int there, const NibblePass& pass) {
  for (int i = static_cast<int>(threadIdx.x); i < there * NibbleDecode::kOutputs;
       i += NibbleDecode::kThreads) {
    const std::int64_t n = n0 + i % NibbleDecode::kOutputs;
    const std::uint32_t group = rows.group_of(first_k + i / NibbleDecode::kOutputs * span);
    const unsigned char* const row = rows.row(n < g.range.n ? n : g.range.n - 1);
    pass.scales[i] = Codes::product_scale(Codes::scale(rows.scale(row, group)));
    if constexpr (Codes::kZero != 0) pass.zeros[i] = rows.zero(row, group, Codes::kZero);
  }
}

/// The running sum of one output and row of activations.
struct NibbleSum {
  float sum = 0.0f;
  std::uint32_t integers = 0;  ///< of the group so far; wraps, as the products do
  int left;                    ///< k of the group that are to come

  /// Adds the slots of a pass. @param last  K ends with them
  template <class Codes>
  KVANT_DEVICE void add(const NibblePass& pass, int slots, int rows, int row, int output, int span,
                        int group, bool last) {
    for (int s = 0; s < slots; ++s) {
      integers += static_cast<std::uint32_t>(
          pass.sums[(s * rows + row) * NibbleDecode::kRowStride + output]);
      const int at = s * NibbleDecode::kOutputs + output;
      if constexpr (Codes::kZero != 0) {
        integers -=
            pass.zeros[at] * static_cast<std::uint32_t>(pass.a_sums[s * NibbleDecode::kRows + row]);
      }
      left -= span;
      if (left > 0 && !(last && s == slots - 1)) continue;
      sum = device::fused_multiply_add(static_cast<float>(static_cast<std::int32_t>(integers)),
                                       pass.scales[at], sum);
      integers = 0;
      left = group;
    }
  }
};

template <class Codes>
KVANT_KERNEL(NibbleDecode::kThreads, 2)
decode_nibbles_kernel(KVANT_CONSTANT GemmLaunch launch, NibbleCut cut) {
  using D = NibbleDecode;
  const GemmArgs& g = launch.args;
  const NibbleRows rows = NibbleRows::of(g);
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32, warp = thread / 32, row = lane / 4, part = lane % 4;
  const std::int64_t n0 = std::int64_t{blockIdx.x} * D::kOutputs;
  const unsigned char* weights[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t n = n0 + half * 8 + row;
    weights[half] = rows.row(n < g.range.n ? n : g.range.n - 1);
  }
  const auto m_count = static_cast<int>(g.range.m);
  const auto* const x = static_cast<const std::int8_t*>(g.a) +
                        (row < m_count ? row : 0) * g.range.k_padded + part * 4;
  const auto chunks = static_cast<int>(g.range.k_padded / kNibbleChunk);
  const int span = cut.span, of_chunk = kNibbleChunk / span;
  const int chunks_of_pass = D::kWarps * cut.unroll;

  device::Words4 codes[D::kUnroll][2] = {};
  const auto load = [&](int first) {
#pragma unroll
    for (int u = 0; u < D::kUnroll; ++u) {
      const int chunk = first + u * D::kWarps + warp;
      if (u < cut.unroll && chunk < chunks) {
        codes[u][0] = device::load_stream(weights[0] + chunk * 64 + part * 16);
        codes[u][1] = device::load_stream(weights[1] + chunk * 64 + part * 16);
      }
    }
  };
  device::let_next_kernel_start();
  load(0);  // while the kernel in front makes the activations
  device::wait_for_previous_kernel();
  const int output = thread % D::kOutputs, m = thread / D::kOutputs;
  NibbleSum sum{.left = static_cast<int>(rows.group)};
  for (int first = 0, number = 0; first < chunks; first += chunks_of_pass, ++number) {
    const NibblePass pass = NibblePass::at(number, cut, m_count);
    const int there =
        (chunks - first < chunks_of_pass ? chunks - first : chunks_of_pass) * of_chunk;
    stage_nibble_scales<Codes>(g, rows, n0, first * kNibbleChunk, span, there, pass);
#pragma unroll
    for (int u = 0; u < D::kUnroll; ++u) {
      const int of_pass = u * D::kWarps + warp, chunk = first + of_pass;
      if (u >= cut.unroll || chunk >= chunks) continue;
      std::uint32_t b[4][2];
#pragma unroll
      for (int run = 0; run < 4; ++run) {
        const std::int8_t* const at = x + chunk * kNibbleChunk + run * kNibbleRun;
        b[run][0] = row < m_count ? *reinterpret_cast<const std::uint32_t*>(at) : 0;
        b[run][1] = row < m_count ? *reinterpret_cast<const std::uint32_t*>(at + 16) : 0;
      }
      std::int32_t c[4] = {}, a_sum[4] = {};
#pragma unroll
      for (int run = 0; run < 4; ++run) {
        const NibblePair upper = Codes::with_zero(codes[u][0].w[run]);
        const NibblePair lower = Codes::with_zero(codes[u][1].w[run]);
        const std::uint32_t a[4] = {upper.low, lower.low, upper.high, lower.high};
        device::mma_s8(c, a, b[run][0], b[run][1]);
        if constexpr (Codes::kZero != 0) {
          constexpr std::uint32_t kOnes[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
          device::mma_s8(a_sum, kOnes, b[run][0], b[run][1]);
        }
        if ((run + 1) * kNibbleRun % span != 0) continue;
        const int slot = of_pass * of_chunk + run * kNibbleRun / span;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int at_m = part * 2 + e % 2;
          if (at_m < m_count) {
            pass.sums[(slot * m_count + at_m) * D::kRowStride + row + e / 2 * 8] = c[e];
          }
          if (Codes::kZero != 0 && e < 2 && row == 0) {
            pass.a_sums[slot * D::kRows + at_m] = a_sum[e];
          }
          c[e] = a_sum[e] = 0;
        }
      }
    }
    load(first + chunks_of_pass);
    device::block_barrier();  // all sums of the pass are there; those of the one before are used
    if (m < m_count) {
      sum.add<Codes>(pass, there, m_count, m, output, span, static_cast<int>(rows.group),
                     first + chunks_of_pass >= chunks);
    }
  }
  if (m >= m_count || n0 + output >= g.range.n) return;
  const std::int64_t features = count_of_features(launch.args);
  float outliers = 0.0f;
  for (std::int64_t f = 0; f < features; ++f) {
    outliers = device::fused_multiply_add(
        feature_activation(launch.args, f, m),
        feature_weight<NibbleWeights<Codes>>(launch.args, f, n0 + output), outliers);
  }
  store_result(g.epilogue, m, n0 + output, sum.sum, features > 0, outliers);
}

template <class Codes>
void launch_decode_nibbles(const GemmLaunch& g, void* queue) {
  using D = NibbleDecode;
  const NibbleCut cut = NibbleCut::of(g.args);
  device::launch(
      {.grid = {static_cast<int>((g.args.range.n + D::kOutputs - 1) / D::kOutputs), 1, 1},
       .threads = D::kThreads,
       .shared_bytes = 2 * cut.words * 4,
       .queue = queue},
      &decode_nibbles_kernel<Codes>, g, cut);
}

}  // namespace
}  // namespace kvant
