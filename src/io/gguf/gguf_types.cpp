// The table of GGUF's types.

#include <algorithm>
#include <array>

#include "io/gguf/gguf_blocks.hpp"
#include "io/gguf/gguf_quantizers.hpp"
#include "kvant/gguf_blocks.hpp"
#include "kvant/io/gguf.hpp"

namespace kvant::io {
namespace {

template <GgufBlocks kType>
void dequantize(const std::byte* block, float* out) noexcept {
  dequantize_block(kType, block, out);
}

constexpr std::array kTypes{
    GgufType{0, "F32", 1, 4, dequantize_f32, DType::float32, quantize_f32},
    GgufType{1, "F16", 1, 2, dequantize_f16, DType::float16, quantize_f16},
    GgufType{2, "Q4_0", 32, 18, dequantize<GgufBlocks::q4_0>, {}, quantize_q4_0},
    GgufType{3, "Q4_1", 32, 20, dequantize<GgufBlocks::q4_1>, {}, quantize_q4_1},
    GgufType{6, "Q5_0", 32, 22, dequantize<GgufBlocks::q5_0>, {}, quantize_q5_0},
    GgufType{7, "Q5_1", 32, 24, dequantize<GgufBlocks::q5_1>, {}, quantize_q5_1},
    GgufType{8, "Q8_0", 32, 34, dequantize<GgufBlocks::q8_0>, {}, quantize_q8_0},
    GgufType{9, "Q8_1", 32, 36, dequantize_q8_1, {}},
    GgufType{10, "Q2_K", 256, 84, dequantize_q2_k, {}},
    GgufType{11, "Q3_K", 256, 110, dequantize_q3_k, {}},
    GgufType{12, "Q4_K", 256, 144, dequantize<GgufBlocks::q4_k>, {}, quantize_q4_k},
    GgufType{13, "Q5_K", 256, 176, dequantize<GgufBlocks::q5_k>, {}, quantize_q5_k},
    GgufType{14, "Q6_K", 256, 210, dequantize<GgufBlocks::q6_k>, {}, quantize_q6_k},
    GgufType{15, "Q8_K", 256, 292, dequantize_q8_k, {}},
    GgufType{16, "IQ2_XXS", 256, 66, dequantize_iq2_xxs, {}},
    GgufType{17, "IQ2_XS", 256, 74, dequantize_iq2_xs, {}},
    GgufType{18, "IQ3_XXS", 256, 98, dequantize_iq3_xxs, {}},
    GgufType{19, "IQ1_S", 256, 50, dequantize_iq1_s, {}},
    GgufType{20, "IQ4_NL", 32, 18, dequantize_iq4_nl, {}},
    GgufType{21, "IQ3_S", 256, 110, dequantize_iq3_s, {}},
    GgufType{22, "IQ2_S", 256, 82, dequantize_iq2_s, {}},
    GgufType{23, "IQ4_XS", 256, 136, dequantize_iq4_xs, {}},
    GgufType{24, "I8", 1, 1, nullptr, DType::int8},
    GgufType{25, "I16", 1, 2, nullptr, DType::int16},
    GgufType{26, "I32", 1, 4, nullptr, DType::int32},
    GgufType{27, "I64", 1, 8, nullptr, DType::int64},
    GgufType{28, "F64", 1, 8, dequantize_f64, DType::float64},
    GgufType{29, "IQ1_M", 256, 56, dequantize_iq1_m, {}},
    GgufType{30, "BF16", 1, 2, dequantize_bf16, DType::bfloat16, quantize_bf16},
    GgufType{34, "TQ1_0", 256, 54, dequantize_tq1_0, {}},
    GgufType{35, "TQ2_0", 256, 66, dequantize_tq2_0, {}},
    GgufType{39, "MXFP4", 32, 17, dequantize_mxfp4, {}},
    GgufType{40, "NVFP4", 64, 36, dequantize_nvfp4, {}},
    GgufType{41, "Q1_0", 128, 18, dequantize_q1_0, {}},
    GgufType{42, "Q2_0", 64, 18, dequantize_q2_0, {}},
};

}  // namespace

std::span<const GgufType> gguf_types() noexcept {
  return kTypes;
}

const GgufType* find_gguf_type(std::string_view name) noexcept {
  const auto same = [&](const GgufType& type) {
    return std::equal(
        name.begin(), name.end(), type.name.begin(), type.name.end(),
        [](char a, char b) { return a == b || (a >= 'a' && a <= 'z' && a - 32 == b); });
  };
  const auto* it = std::find_if(kTypes.begin(), kTypes.end(), same);
  return it == kTypes.end() ? nullptr : it;
}

}  // namespace kvant::io
