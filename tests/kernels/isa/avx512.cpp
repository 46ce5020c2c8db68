// The members of Avx512 against their emulation; compiled with the flags of kernel set avx512.

#include "cpu/x86/simd_avx512.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_avx512_members() {
  return compare_simd_members<Avx512, EmulatedAvx512>();
}

}  // namespace kvant::test
