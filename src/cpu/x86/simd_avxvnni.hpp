#pragma once

// AVX-VNNI on the 256 bits of AVX2: vpdpbusd, which sums 4 products of unsigned by signed bytes in
// each lane at once and never saturates. (AVX-512's VNNI is a different encoding of the same
// instruction.)

#include "cpu/x86/simd_avx2.hpp"

namespace kvant {
namespace {

struct AvxVnni : Avx2 {
  static constexpr int kPairLimit = 0;
  // A macro over a builtin that both encodings have: the unit's flags choose, so that the tests run
  // these kernels on processors with AVX-512 VNNI too (tests/kernels/isa/avxvnni_evex.cpp).
  static I dot(I acc, I a, I b) noexcept { return _mm256_dpbusd_epi32(acc, a, b); }
};

}  // namespace
}  // namespace kvant
