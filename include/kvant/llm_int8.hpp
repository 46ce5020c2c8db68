#pragma once

/// @file
/// LLM.int8() (Dettmers et al., arXiv 2208.07339): activations quantized row by row, weights output
/// by output, the few outlier features (|x| >= threshold) multiplied in floating point, both
/// summed. src/numerics.md, section "LLM.int8()", is the contract.

#include "kvant/activation_options.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// y [M, N] = x [M, K] w^T + bias by LLM.int8(), both sides quantized in this call as in the paper:
/// outlier columns are found in x first, and their weights are taken from w in half precision.
/// For weights used more than once make an Int8Linear: it quantizes and packs them once.
/// @param x, w   fp32, fp16 or bf16; w is [N, K] as nn.Linear stores it
/// @param bias   [1, N], or empty
/// @throws Error shape_mismatch, invalid_argument, unsupported, out_of_range, out_of_memory
KVANT_API void llm_int8_matmul(Context& context, ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                               ConstAnyMatrix bias = {}, const Int8Options& options = {});
/// The same on default_context().
KVANT_API void llm_int8_matmul(ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                               ConstAnyMatrix bias = {}, const Int8Options& options = {});

}  // namespace kvant
