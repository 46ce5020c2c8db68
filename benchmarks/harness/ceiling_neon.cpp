#include <cstdint>

namespace kvant::bench {

std::int64_t ceiling_neon(std::int64_t steps) {
  // smull, smull2, addp and sadalp into 6 independent sums; the products go through registers of
  // their own.
  asm volatile(
      "movi v30.16b, #1\n\t"
      "movi v31.16b, #255\n\t"
      "1:\n\t"
#define D(sum, low, high)                    \
  "smull v" #low                             \
  ".8h, v30.8b, v31.8b\n\t"                  \
  "smull2 v" #high                           \
  ".8h, v30.16b, v31.16b\n\t"                \
  "addp v" #low ".8h, v" #low ".8h, v" #high \
  ".8h\n\t"                                  \
  "sadalp v" #sum ".4s, v" #low ".8h\n\t"
      D(0, 6, 7) D(1, 8, 9) D(2, 10, 11) D(3, 12, 13) D(4, 14, 15) D(5, 16, 17)
#undef D
          "subs %0, %0, #1\n\t"
          "b.ne 1b"
      : "+r"(steps)
      :
      : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
        "v14", "v15", "v16", "v17", "v30", "v31", "cc");
  return steps;
}

}  // namespace kvant::bench
