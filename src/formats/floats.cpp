// float32, float16, bfloat16: the elements themselves, rounded to nearest even. No scales.

#include "formats/rules.hpp"
#include "kvant/float_element.hpp"

namespace kvant::detail {
namespace {

template <DType kType>
void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& /*options*/, const EncodedRows& to) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    kernels.convert({.x = x.slice(first + r, 1).data,
                     .x_dtype = x.dtype,
                     .y = to.codes + r * to.code_stride,
                     .y_dtype = kType,
                     .count = x.cols});
  }
}

template <DType kType>
void decode(const std::byte* codes, const RowScales& /*scales*/, std::int64_t k,
            float* to) noexcept {
  for (std::int64_t i = 0; i < k; ++i) to[i] = load_element(codes, kType, i);
}

template <WeightFormat kFormat>
constexpr FormatRules kRules = {kFormat, &encode<describe(kFormat).codes>,
                                &decode<describe(kFormat).codes>};

}  // namespace

const FormatRules& float32_rules() noexcept {
  return kRules<WeightFormat::float32>;
}
const FormatRules& float16_rules() noexcept {
  return kRules<WeightFormat::float16>;
}
const FormatRules& bfloat16_rules() noexcept {
  return kRules<WeightFormat::bfloat16>;
}

}  // namespace kvant::detail
