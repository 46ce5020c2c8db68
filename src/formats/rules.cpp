#include "formats/rules.hpp"

#include "formats/formats.hpp"

namespace kvant::detail {

const FormatRules* rules_of(WeightFormat format) noexcept {
  static constexpr const FormatRules* kRules[] = {
      &kFloat32Rules,
      &kFloat16Rules,
      &kBfloat16Rules,
      &kInt8RowRules,
      &kInt8GroupRules,
  };
  for (const FormatRules* rules : kRules) {
    if (rules->format == format) return rules;
  }
  return nullptr;
}

}  // namespace kvant::detail
