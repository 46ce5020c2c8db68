// float32, float16, bfloat16: the elements themselves, rounded to nearest even. No scales.

#include "formats/formats.hpp"
#include "kvant/float_element.hpp"

namespace kvant::detail {
namespace {

template <DType kType>
void encode(const KernelTable& kernels, const FloatRows& x, const EncodeOptions& /*options*/,
            const EncodedRows& to) noexcept {
  const std::int64_t element = describe(x.dtype).bits / 8;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    kernels.convert({.x = static_cast<const std::byte*>(x.data) + r * x.stride * element,
                     .x_dtype = x.dtype,
                     .y = to.codes + r * to.code_stride,
                     .y_dtype = kType,
                     .count = x.cols});
  }
}

template <DType kType>
void decode(const std::byte* codes, const float* /*scales*/, std::int64_t k, std::int64_t /*block*/,
            float* to) noexcept {
  for (std::int64_t i = 0; i < k; ++i) to[i] = load_element(codes, kType, i);
}

}  // namespace

constinit const FormatRules kFloat32Rules = {WeightFormat::float32, &encode<DType::float32>,
                                             &decode<DType::float32>};
constinit const FormatRules kFloat16Rules = {WeightFormat::float16, &encode<DType::float16>,
                                             &decode<DType::float16>};
constinit const FormatRules kBfloat16Rules = {WeightFormat::bfloat16, &encode<DType::bfloat16>,
                                              &decode<DType::bfloat16>};

}  // namespace kvant::detail
