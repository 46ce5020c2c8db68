#pragma once

// Runs the int8 GEMM of any kernel set on row-major codes, in guarded buffers.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernel_sets.hpp"
#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/packed_weights.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/guarded_buffer.hpp"

namespace kvant::test {

struct GemmCase {
  std::int64_t m, n, k;
  std::vector<std::int8_t> a;  ///< [m, k]
  std::vector<std::int8_t> b;  ///< [n, k]

  [[nodiscard]] std::string shape() const {
    return std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
  }
};

/// The definition.
inline std::vector<std::int32_t> reference_gemm(const GemmCase& c) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(c.m * c.n));
  for (std::int64_t m = 0; m < c.m; ++m) {
    for (std::int64_t n = 0; n < c.n; ++n) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < c.k; ++k) {
        sum += std::int64_t{c.a[static_cast<std::size_t>(m * c.k + k)]} *
               c.b[static_cast<std::size_t>(n * c.k + k)];
      }
      out[static_cast<std::size_t>(m * c.n + n)] = static_cast<std::int32_t>(sum);
    }
  }
  return out;
}

/// Activation codes [m, k] in the format and the row blocks of a kernel set, at the very end of
/// readable memory (but for the slack that the kernels may read).
struct PackedActivations {
  GuardedBuffer<std::byte> bytes;
  GuardedBuffer<std::int32_t> sums;  ///< where the kernels want any

  PackedActivations(const KernelTable& kernels, const GemmCase& c, std::int64_t k_padded)
      : bytes(static_cast<std::size_t>(c.m * k_padded + kActivationSlack)),
        sums(int8_of(kernels).sums == ActivationSums::none
                 ? 0
                 : static_cast<std::size_t>(c.m * sums_of_row(k_padded, int8_of(kernels).sums))) {
    const RowBlocks blocks = int8_of(kernels).blocks(c.m);
    const int offset = int8_of(kernels).activations == ActivationFormat::u8_offset ? 128 : 0;
    for (std::int64_t b = 0; b < blocks.count(); ++b) {
      const std::int32_t rows = blocks.rows(b);
      for (std::int32_t r = 0; r < rows; ++r) {
        for (std::int64_t k = 0; k < k_padded; ++k) {
          const auto row = static_cast<std::size_t>((blocks.first(b) + r) * c.k + k);
          const int code = k < c.k ? c.a[row] : 0;
          bytes[static_cast<std::size_t>(blocks.first(b) * k_padded + blocks.offset(rows, r, k))] =
              static_cast<std::byte>(static_cast<std::uint8_t>(code + offset));
        }
      }
    }
    if (sums.size() > 0) {
      kernels.sum_codes({.codes = bytes.data(),
                         .blocks = blocks,
                         .block_begin = 0,
                         .block_end = blocks.count(),
                         .k_padded = k_padded,
                         .kind = int8_of(kernels).sums,
                         .sums = sums.data()});
    }
  }
};

/// Weights packed for a kernel set, an emulated one too.
inline std::shared_ptr<const PackedWeights::State> pack(const KernelTable& kernels,
                                                        const GemmCase& c) {
  detail::PackedWeightsBuilder builder("test", kernels, WeightFormat::int8_row, c.n, c.k, 0);
  builder.pack_rows(0, reinterpret_cast<const std::byte*>(c.b.data()), c.n, c.k);
  return builder.finish();
}

/// The product of activations and weights, to be given an epilogue.
inline GemmArgs product_of(const KernelTable& kernels, const GemmCase& c,
                           const PackedActivations& a, const PackedWeights::State& weights,
                           const void* codes) {
  GemmArgs args{};
  args.a = a.bytes.data();
  args.b = codes;
  args.b_offset = weights.offsets.data();
  args.a_sums = a.sums.data();
  args.range = {.m = c.m,
                .n = c.n,
                .k_padded = weights.k_padded,
                .block_end = int8_of(kernels).blocks(c.m).count(),
                .panel_end = weights.layout().panels(c.n)};
  return args;
}

/// Int32 results of one kernel set, computed in the given ranges of panels (all, when 0).
inline std::vector<std::int32_t> run_gemm(const KernelTable& kernels, const GemmCase& c,
                                          std::int64_t panels_per_call = 0) {
  const auto packed = pack(kernels, c);
  const GuardedBuffer<std::byte> weights(
      std::span<const std::byte>(packed->codes.data(), packed->codes.size()));
  const PackedActivations a(kernels, c, packed->k_padded);
  const GuardedBuffer<std::int32_t> out(static_cast<std::size_t>(c.m * c.n));
  GemmArgs args = product_of(kernels, c, a, *packed, weights.data());
  args.epilogue.y = out.data();
  args.epilogue.y_dtype = DType::int32;
  args.epilogue.y_stride = c.n;
  const std::int64_t panels = args.range.panel_end;
  const std::int64_t step = panels_per_call > 0 ? panels_per_call : panels;
  for (std::int64_t p = 0; p < panels; p += step) {
    args.range.panel_begin = p;
    args.range.panel_end = p + step < panels ? p + step : panels;
    int8_of(kernels).gemm(args);
  }
  return {out.data(), out.data() + out.size()};
}

/// Where two results differ first, with the values around it; empty when they do not.
template <class T>
std::string first_difference(const std::vector<T>& got, const std::vector<T>& want,
                             std::int64_t cols) {
  if (got.size() != want.size()) return "sizes differ";
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;
    const auto row = static_cast<std::int64_t>(i) / cols;
    const auto col = static_cast<std::int64_t>(i) % cols;
    std::string text = "first at [" + std::to_string(row) + ", " + std::to_string(col) + "]:";
    for (std::int64_t c = col > 1 ? col - 2 : 0; c < col + 3 && c < cols; ++c) {
      const auto at = static_cast<std::size_t>(row * cols + c);
      text += " " + std::to_string(got[at]) + " (want " + std::to_string(want[at]) + ")";
    }
    return text;
  }
  return {};
}

}  // namespace kvant::test
