// The members of Avx2 against their emulation; compiled with the flags of kernel set avx2.

#include "cpu/x86/simd_avx2.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_avx2_members() {
  return compare_simd_members<Avx2, EmulatedAvx2>();
}

}  // namespace kvant::test
