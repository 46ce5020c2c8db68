// The members of NeonI8mm against their emulation; compiled with the flags of kernel set neon_i8mm.

#include "cpu/arm/simd_neon.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_neon_i8mm_members() {
  return compare_simd_members<NeonI8mm, EmulatedNeonI8mm>();
}

}  // namespace kvant::test
