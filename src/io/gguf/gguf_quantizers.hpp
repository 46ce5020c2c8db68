#pragma once

// Real values to GGUF's blocks. Elements and the types of 32 values become what ggml's reference
// quantizers (quantize_row_*_ref) make of them, bit for bit; the types of 256 values are found by a
// search of our own, since theirs has no bits to agree with.

#include <cstddef>

namespace kvant::io {

// As many finite values as the type has, none above kLargestGgufValue in magnitude (F32: any); the
// block at any alignment.
#define KVANT_GGUF_QUANTIZER(name) \
  void quantize_##name(const float* values, std::byte* block) noexcept
KVANT_GGUF_QUANTIZER(f32);
KVANT_GGUF_QUANTIZER(f16);
KVANT_GGUF_QUANTIZER(bf16);
KVANT_GGUF_QUANTIZER(q4_0);
KVANT_GGUF_QUANTIZER(q4_1);
KVANT_GGUF_QUANTIZER(q5_0);
KVANT_GGUF_QUANTIZER(q5_1);
KVANT_GGUF_QUANTIZER(q8_0);
KVANT_GGUF_QUANTIZER(q4_k);
KVANT_GGUF_QUANTIZER(q5_k);
KVANT_GGUF_QUANTIZER(q6_k);
#undef KVANT_GGUF_QUANTIZER

}  // namespace kvant::io
