#include <cstdint>

namespace kvant::bench {

std::int64_t ceiling_avx512(std::int64_t steps) {
  // vpmaddubsw + vpmaddwd(ones) + vpaddd, 10 independent sums; the products go through registers of
  // their own.
  asm volatile(
      "vpxorq %%zmm29, %%zmm29, %%zmm29\n\t"
      "vpternlogd $255, %%zmm30, %%zmm30, %%zmm30\n\t"
      "vpabsw %%zmm30, %%zmm31\n\t"
      "1:\n\t"
#define D(sum, product)                                 \
  "vpmaddubsw %%zmm30, %%zmm29, %%zmm" #product         \
  "\n\t"                                                \
  "vpmaddwd %%zmm31, %%zmm" #product ", %%zmm" #product \
  "\n\t"                                                \
  "vpaddd %%zmm" #product ", %%zmm" #sum ", %%zmm" #sum "\n\t"
      D(0, 10) D(1, 11) D(2, 12) D(3, 13) D(4, 14) D(5, 15) D(6, 16) D(7, 17) D(8, 18) D(9, 19)
#undef D
          "dec %0\n\t"
          "jnz 1b\n\t"
          "vzeroupper"
      : "+r"(steps)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm29",
        "xmm30", "xmm31", "cc");
  return steps;
}

}  // namespace kvant::bench
