// The members of Amx against their emulation; compiled with the flags of kernel set amx.

#include "cpu/x86/simd_amx.hpp"

#include "kernels/emulated_squares.hpp"

namespace kvant::test {
namespace {

/// The sums of squares 0 to 3 behind two steps, of `depth` k each, of a tile of `rows` rows, in 32
/// columns.
template <class S>
void multiply(int rows, int depth, const unsigned char* a, const unsigned char* b,
              std::int32_t* sums) {
  S::shape_squares(rows, depth);
  S::template zero_square<0>();
  S::template zero_square<1>();
  S::template zero_square<2>();
  S::template zero_square<3>();
  for (int step = 0; step < 2; ++step, a += rows * 64, b += 2048) {
    S::template load_square<4>(a, 64);
    S::template load_square<6>(b, 128);
    S::template load_square<7>(b + 64, 128);
    S::template dot_squares<0, 4, 6>();
    S::template dot_squares<1, 4, 7>();
    if (rows > 16) {
      S::template load_square<5>(a + 16 * 64, 64);
      S::template dot_squares<2, 5, 6>();
      S::template dot_squares<3, 5, 7>();
    }
  }
  S::template store_square<0>(sums, 32);
  S::template store_square<1>(sums + 16, 32);
  if (rows > 16) {
    S::template store_square<2>(sums + 16 * 32, 32);
    S::template store_square<3>(sums + 16 * 32 + 16, 32);
  }
  S::release_squares();
}

}  // namespace

const char* compare_amx_members() {
  alignas(64) static unsigned char a[2 * 32 * 64];
  alignas(64) static unsigned char b[2 * 2048];
  std::uint32_t random = 7;
  const auto fill = [&](unsigned char& byte) {
    random = random * 1664525u + 1013904223u;
    byte = static_cast<unsigned char>(random >> 24);
  };
  for (unsigned char& byte : a) fill(byte);
  for (unsigned char& byte : b) fill(byte);
  for (int i = 0; i < 64; ++i) a[i] = b[i / 4 * 128 + i % 4] = 0x80;  // -128 * -128, 64 times
  for (int i = 0; i < 2 * 32; ++i) {
    const int rows = i % 32 + 1;
    const int depth = i < 32 ? 64 : 32;
    // (Behind the last row nothing is written: both keep the mark.)
    alignas(64) std::int32_t got[32 * 32];
    alignas(64) std::int32_t want[32 * 32];
    for (int j = 0; j < 32 * 32; ++j) got[j] = want[j] = 0x5A5A5A5A;
    multiply<Amx>(rows, depth, a, b, got);
    multiply<EmulatedAmx>(rows, depth, a, b, want);
    for (int j = 0; j < 32 * 32; ++j) {
      if (got[j] != want[j]) return "dot_squares";
    }
    if ((got[rows * 32 - 1] == 0x5A5A5A5A) || (rows < 32 && got[rows * 32] != 0x5A5A5A5A)) {
      return "shape_squares";
    }
  }
  return nullptr;
}

}  // namespace kvant::test
