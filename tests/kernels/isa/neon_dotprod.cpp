// The members of NeonDotprod against their emulation; compiled with the flags of kernel set
// neon_dotprod.

#include "cpu/arm/simd_neon.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_neon_dotprod_members() {
  return compare_simd_members<NeonDotprod, EmulatedNeonDotprod>();
}

}  // namespace kvant::test
