#pragma once

// The members of SimdSquares said with plain arrays: eight registers of up to 16 rows of 64 bytes.

#include <cstdlib>

#include "kernels/emulated_simd.hpp"

namespace kvant {
namespace {

struct EmulatedSquare {
  int rows = 0;  ///< 0: not to be used
  int row_bytes = 64;
  std::int8_t bytes[16][64] = {};
};

struct EmulatedAmx : EmulatedSimd<16, EmulatedDot::dpbusd, 32, 2> {
  static constexpr int panels(int rows) { return rows == 1 ? 4 : rows <= 16 ? 2 : 1; }

  using Square = EmulatedSquare;
  static inline thread_local Square squares[8];

  /// A square in use; a processor ends the program where it has no shape.
  static Square& used(int i) {
    if (squares[i].rows == 0) std::abort();
    return squares[i];
  }
  static void shape_squares(int rows, int k) {
    for (Square& square : squares) square = Square{k / 4, 64, {}};
    for (const int i : {0, 1, 2, 3, 4}) squares[i].rows = rows < 16 ? rows : 16;
    squares[4].row_bytes = k;
    if (rows <= 16) return;
    for (const int i : {2, 3, 5}) squares[i].rows = rows - 16;
    squares[5].row_bytes = k;
  }
  static void release_squares() {
    for (Square& square : squares) square = Square{};
  }
  template <int kTo>
  static void zero_square() {
    std::memset(used(kTo).bytes, 0, sizeof(Square::bytes));
  }
  template <int kTo>
  static void load_square(const unsigned char* from, std::ptrdiff_t stride) {
    zero_square<kTo>();
    Square& to = used(kTo);
    for (int r = 0; r < to.rows; ++r) {
      std::memcpy(to.bytes[r], from + r * stride, static_cast<std::size_t>(to.row_bytes));
    }
  }
  template <int kFrom>
  static void store_square(std::int32_t* to, std::ptrdiff_t stride) {
    for (int r = 0; r < used(kFrom).rows; ++r)
      std::memcpy(to + r * stride, used(kFrom).bytes[r], 64);
  }
  template <int kSums, int kA, int kB>
  static void dot_squares() {
    if (used(kSums).rows != used(kA).rows || used(kA).row_bytes != 4 * used(kB).rows) {
      std::abort();
    }
    for (int r = 0; r < used(kSums).rows; ++r) {
      for (int n = 0; n < 16; ++n) {
        std::uint32_t sum;
        std::memcpy(&sum, used(kSums).bytes[r] + n * 4, 4);
        for (int k = 0; k < used(kA).row_bytes; ++k) {
          sum += static_cast<std::uint32_t>(used(kA).bytes[r][k] *
                                            used(kB).bytes[k / 4][n * 4 + k % 4]);
        }
        std::memcpy(used(kSums).bytes[r] + n * 4, &sum, 4);
      }
    }
  }
};

}  // namespace
}  // namespace kvant
