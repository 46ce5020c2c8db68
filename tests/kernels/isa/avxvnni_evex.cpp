// Kernel set avxvnni in AVX-512's encoding of its one instruction of its own, for processors that
// have that one alone: compiled with the flags of kernel set avx512vnni.

#include "cpu/x86/simd_avxvnni.hpp"

#include "cpu/micro/make_table.hpp"
#include "kernels/simd_members.hpp"

namespace kvant::test {

extern const KernelTable avxvnni_by_evex;
constinit const KernelTable avxvnni_by_evex = make_integer_table<AvxVnni>("avxvnni by EVEX");

const char* compare_avxvnni_evex_members() {
  return compare_simd_members<AvxVnni, EmulatedAvxVnni>();
}

}  // namespace kvant::test
