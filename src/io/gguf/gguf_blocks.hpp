#pragma once

// The real values of GGUF's blocks. The order of the float operations is ggml's: the bracket first,
// then the product, then the subtraction, never fused. (Those that kvant multiplies as they are
// stand in kvant/gguf_blocks.hpp.)

#include <cstddef>

namespace kvant::io {

// A block's bytes at any alignment, out as long as the type says.
#define KVANT_GGUF_BLOCK(name) void dequantize_##name(const std::byte* block, float* out) noexcept
KVANT_GGUF_BLOCK(f32);
KVANT_GGUF_BLOCK(f16);
KVANT_GGUF_BLOCK(bf16);
KVANT_GGUF_BLOCK(f64);
KVANT_GGUF_BLOCK(q8_1);
KVANT_GGUF_BLOCK(q2_k);
KVANT_GGUF_BLOCK(q3_k);
KVANT_GGUF_BLOCK(q8_k);
KVANT_GGUF_BLOCK(iq4_nl);
KVANT_GGUF_BLOCK(iq4_xs);
KVANT_GGUF_BLOCK(tq1_0);
KVANT_GGUF_BLOCK(tq2_0);
KVANT_GGUF_BLOCK(mxfp4);
KVANT_GGUF_BLOCK(nvfp4);
KVANT_GGUF_BLOCK(q1_0);
KVANT_GGUF_BLOCK(q2_0);
KVANT_GGUF_BLOCK(iq1_s);
KVANT_GGUF_BLOCK(iq1_m);
KVANT_GGUF_BLOCK(iq2_xxs);
KVANT_GGUF_BLOCK(iq2_xs);
KVANT_GGUF_BLOCK(iq2_s);
KVANT_GGUF_BLOCK(iq3_xxs);
KVANT_GGUF_BLOCK(iq3_s);
#undef KVANT_GGUF_BLOCK

}  // namespace kvant::io
