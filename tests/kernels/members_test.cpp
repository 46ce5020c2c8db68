// Each member of the real traits types against its emulation, where the processor has it.

#include <string_view>

#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "support/catch.hpp"

namespace kvant::test {

#if KVANT_TEST_X86
const char* compare_avx2_members();
const char* compare_avxvnni_members();
const char* compare_avxvnni_evex_members();
const char* compare_avx512_members();
const char* compare_avx512vnni_members();
const char* compare_avx512bf16_members();
const char* compare_amx_members();
#elif KVANT_TEST_ARM
const char* compare_neon_members();
const char* compare_neon_dotprod_members();
const char* compare_neon_i8mm_members();
#endif

namespace {

/// @param set  whose processor features the comparison needs
[[maybe_unused]] void check(std::string_view name, const char* (*compare)(),
                            std::string_view set = {}) {
  if (set.empty()) set = name;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.name != set) continue;
    if (!isa.available) {
      WARN(name << ": not compared, this machine has no " << isa.missing);
      return;
    }
    const char* differs = compare();
    INFO(name << ": member " << (differs != nullptr ? differs : ""));
    CHECK(differs == nullptr);
    return;
  }
  FAIL(set << " is not in this build");
}

}  // namespace

#if KVANT_TEST_X86
TEST_CASE("simd members mean what their emulation says") {
  check("avx2", &compare_avx2_members);
  check("avxvnni", &compare_avxvnni_members);
#if !KVANT_TEST_NO_EMULATION
  check("avxvnni by EVEX", &compare_avxvnni_evex_members, "avx512vnni");
#endif
  check("avx512", &compare_avx512_members);
  check("avx512vnni", &compare_avx512vnni_members);
  check("amx", &compare_amx_members);
  if (kernels_for().gemm_for(WeightFormat::bfloat16).activations ==
      ActivationFormat::bf16) {  // chosen only where the CPU has it
    CHECK(compare_avx512bf16_members() == nullptr);
  } else {
    WARN("avx512bf16: not compared, this machine has no avx512_bf16");
  }
}
#elif KVANT_TEST_ARM
TEST_CASE("simd members mean what their emulation says") {
  check("neon", &compare_neon_members);
  check("neon_dotprod", &compare_neon_dotprod_members);
  check("neon_i8mm", &compare_neon_i8mm_members);
}
#endif

}  // namespace kvant::test
