#include <cstdint>

namespace kvant::bench {

std::int64_t ceiling_neon_dotprod(std::int64_t steps) {
  // 24 independent sums, as the register tile of the kernels has.
  asm volatile(
      "movi v30.16b, #1\n\t"
      "movi v31.16b, #255\n\t"
      "1:\n\t"
#define D(i) "sdot v" #i ".4s, v30.16b, v31.16b\n\t"
      D(0) D(1) D(2) D(3) D(4) D(5) D(6) D(7) D(8) D(9) D(10) D(11) D(12) D(13) D(14) D(15) D(16)
          D(17) D(18) D(19) D(20) D(21) D(22) D(23)
#undef D
              "subs %0, %0, #1\n\t"
              "b.ne 1b"
      : "+r"(steps)
      :
      : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
        "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v30", "v31", "cc");
  return steps;
}

}  // namespace kvant::bench
