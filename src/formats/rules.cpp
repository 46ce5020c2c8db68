// The list of formats that kvant packs, a line each.

#include "formats/rules.hpp"

namespace kvant::detail {

// clang-format off
#define KVANT_FORMAT_RULES(rules) \
  rules(float32)                  \
  rules(float16)                  \
  rules(bfloat16)                 \
  rules(int8_row)                 \
  rules(int8_group)               \
  rules(int4_group)               \
  rules(nf4)                      \
  rules(fp4)                      \
  rules(int3_group)               \
  rules(int2_group)               \
  rules(fp8_row)                  \
  rules(fp8_block)                \
  rules(mxfp4)                    \
  rules(q4_1)                     \
  rules(q5_0)                     \
  rules(q5_1)                     \
  rules(q4_k)                     \
  rules(q5_k)                     \
  rules(q6_k)
// clang-format on

// Each is defined in the file of its name (the floats share one, and so do the codebooks, the
// groups of few bits, the two of e4m3, and the blocks of GGUF).
#define KVANT_DECLARE(name) const FormatRules& name##_rules() noexcept;
KVANT_FORMAT_RULES(KVANT_DECLARE)
#undef KVANT_DECLARE

const FormatRules* rules_of(WeightFormat format) noexcept {
#define KVANT_FIND(name) \
  if (name##_rules().format == format) return &name##_rules();
  KVANT_FORMAT_RULES(KVANT_FIND)
#undef KVANT_FIND
  return nullptr;
}

}  // namespace kvant::detail
