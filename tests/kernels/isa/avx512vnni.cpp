// The members of Avx512Vnni against their emulation; compiled with the flags of kernel set
// avx512vnni.

#include "cpu/x86/simd_avx512.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_avx512vnni_members() {
  return compare_simd_members<Avx512Vnni, EmulatedAvx512Vnni>();
}

}  // namespace kvant::test
