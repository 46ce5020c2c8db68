#pragma once

// AMX: registers of 16 rows of 64 bytes and their product, tdpbssd, which sums signed by signed
// bytes exactly (gemm_squares.hpp); all else is AVX-512 VNNI's. In assembly, since the intrinsics
// of g++ take literal numbers of registers only.

#include "cpu/x86/simd_avx512.hpp"

namespace kvant {
namespace {

struct Amx : Avx512Vnni {
  static constexpr int kRows = 32;
  static constexpr int kVectors = 2;
  static constexpr int kMaxAccumulators = kRows * kVectors;
  static constexpr int panels(int rows) noexcept { return rows == 1 ? 4 : rows <= 16 ? 2 : 1; }

  /// Of up to 16 rows squares 0 to 3 are sums, 4 activations, 5 to 7 weights. Of more rows 0, 1, 4
  /// belong to the first 16 and 2, 3, 5 to the others; 6, 7 are weights. A product is of k codes:
  /// 64, or 32.
  static void shape_squares(int rows, int k) noexcept {
    struct alignas(64) Shapes {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } shapes;
    const auto least = [](int a, int b) { return static_cast<std::uint8_t>(a < b ? a : b); };
    for (int i = 0; i < 8; ++i) {
      const bool activations = i == 4 || (i == 5 && rows > 16);
      const bool below = rows > 16 && (i == 2 || i == 3 || i == 5);
      shapes.row_bytes[i] = activations ? static_cast<std::uint16_t>(k) : 64;
      shapes.rows[i] = below                  ? least(rows - 16, 16)
                       : i < 4 || activations ? least(rows, 16)
                                              : least(k / 4, 16);
    }
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }
  /// What the registers hold needs no more saving.
  static void release_squares() noexcept { asm volatile("tilerelease"); }
  template <int kTo>
  static void zero_square() noexcept {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTo));
  }
  /// Rows, of as many bytes as the square's have, `stride` bytes apart.
  template <int kTo>
  static void load_square(const unsigned char* from, std::ptrdiff_t stride) noexcept {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTo) : "memory");
  }
  /// Rows of 16 sums, `stride` sums apart.
  template <int kFrom>
  static void store_square(std::int32_t* to, std::ptrdiff_t stride) noexcept {
    asm volatile("tilestored %%tmm%c2, (%0,%1,4)" : : "r"(to), "r"(stride), "i"(kFrom) : "memory");
  }
  /// sums[i][j] += the products of the four bytes of a[i][k], b[k][j], over all fours of k.
  template <int kSums, int kA, int kB>
  static void dot_squares() noexcept {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace kvant
