#include <cstdint>

namespace kvant::bench {

std::int64_t ceiling_avxvnni(std::int64_t steps) {
  // 12 independent sums, as the register tile of the kernels has; AVX-VNNI's own encoding.
  asm volatile(
      "vpxor %%ymm13, %%ymm13, %%ymm13\n\t"
      "vpcmpeqd %%ymm14, %%ymm14, %%ymm14\n\t"
      "1:\n\t"
#define D(i) "%{vex%} vpdpbusd %%ymm14, %%ymm13, %%ymm" #i "\n\t"
      D(0) D(1) D(2) D(3) D(4) D(5) D(6) D(7) D(8) D(9) D(10) D(11)
#undef D
          "dec %0\n\t"
          "jnz 1b\n\t"
          "vzeroupper"
      : "+r"(steps)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm13", "xmm14", "cc");
  return steps;
}

}  // namespace kvant::bench
