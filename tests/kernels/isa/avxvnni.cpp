// The members of AvxVnni against their emulation; compiled with the flags of kernel set avxvnni.

#include "cpu/x86/simd_avxvnni.hpp"

#include "kernels/simd_members.hpp"

namespace kvant::test {

const char* compare_avxvnni_members() {
  return compare_simd_members<AvxVnni, EmulatedAvxVnni>();
}

}  // namespace kvant::test
