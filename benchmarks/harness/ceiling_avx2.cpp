#include <cstdint>

namespace kvant::bench {

std::int64_t ceiling_avx2(std::int64_t steps) {
  // vpmaddubsw + vpmaddwd(ones) + vpaddd, 6 independent sums; the products go through registers of
  // their own.
  asm volatile(
      "vpxor %%ymm13, %%ymm13, %%ymm13\n\t"
      "vpcmpeqd %%ymm14, %%ymm14, %%ymm14\n\t"
      "vpabsw %%ymm14, %%ymm15\n\t"
      "1:\n\t"
#define D(sum, product)                                 \
  "vpmaddubsw %%ymm14, %%ymm13, %%ymm" #product         \
  "\n\t"                                                \
  "vpmaddwd %%ymm15, %%ymm" #product ", %%ymm" #product \
  "\n\t"                                                \
  "vpaddd %%ymm" #product ", %%ymm" #sum ", %%ymm" #sum "\n\t"
      D(0, 6) D(1, 7) D(2, 8) D(3, 9) D(4, 10) D(5, 11)
#undef D
          "dec %0\n\t"
          "jnz 1b\n\t"
          "vzeroupper"
      : "+r"(steps)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm13", "xmm14", "xmm15", "cc");
  return steps;
}

}  // namespace kvant::bench
