// The members of Neon against their emulation; compiled with the flags of kernel set neon.

#include "cpu/arm/simd_neon.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_neon_members() {
  return compare_simd_members<Neon, EmulatedNeon>();
}

}  // namespace kvant::test
