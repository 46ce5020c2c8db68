#include <cstdint>

// In assembly: a compiler would fold or hoist a loop whose operands never change.
namespace kvant::bench {

std::int64_t ceiling_avx512vnni(std::int64_t steps) {
  // 24 independent sums, as the register tile of the kernels has.
  asm volatile(
      "vpxorq %%zmm30, %%zmm30, %%zmm30\n\t"
      "vpternlogd $255, %%zmm31, %%zmm31, %%zmm31\n\t"
      "1:\n\t"
#define D(i) "vpdpbusd %%zmm31, %%zmm30, %%zmm" #i "\n\t"
      D(0) D(1) D(2) D(3) D(4) D(5) D(6) D(7) D(8) D(9) D(10) D(11) D(12) D(13) D(14) D(15) D(16)
          D(17) D(18) D(19) D(20) D(21) D(22) D(23)
#undef D
              "dec %0\n\t"
              "jnz 1b\n\t"
              "vzeroupper"
      : "+r"(steps)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",
        "xmm21", "xmm22", "xmm23", "xmm30", "xmm31", "cc");
  return steps;
}

}  // namespace kvant::bench
