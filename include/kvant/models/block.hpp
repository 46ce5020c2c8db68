#pragma once

/// @file
/// One transformer block of GPTBigCode, and the float functions between its linear layers.

#include <cstdint>
#include <memory>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/linear_layer.hpp"

namespace kvant::models {

/// Gain and shift of a layer norm, [n_embd] each.
struct LayerNorm {
  std::vector<float> weight;
  std::vector<float> bias;
};

/// One block of the model: two norms, four linear layers.
struct Block {
  LayerNorm ln_1;
  LayerNorm ln_2;
  std::unique_ptr<LinearLayer> c_attn;
  std::unique_ptr<LinearLayer> attn_c_proj;
  std::unique_ptr<LinearLayer> c_fc;
  std::unique_ptr<LinearLayer> mlp_c_proj;
};

/// Keys and values of one layer, [tokens, kv_dim] each.
struct LayerCache {
  std::vector<float> keys;
  std::vector<float> values;
};

/// What the values between layers are rounded to, after each operation as torch does.
enum class Stream : std::uint8_t { fp32, bf16 };

/// out = (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row; statistics in fp32.
KVANT_API void layer_norm(Context& context, MatrixView<const float> x, const LayerNorm& norm,
                          float epsilon, Stream stream, MatrixView<float> out);

/// Applies the activation function to every element of x, in place.
KVANT_API void apply_activation(Context& context, Activation activation, Stream stream,
                                MatrixView<float> x);

/// Causal attention of the last `qkv.rows()` tokens over all tokens in the cache.
/// @param qkv   output of c_attn: [T, H + 2 kv_dim], or per head (q, k, v) with multi_query = false
/// @param cache holds P earlier tokens; the new ones are appended
/// @param out   [T, H]
KVANT_API void attention(Context& context, const Config& config, MatrixView<const float> qkv,
                         LayerCache& cache, Stream stream, MatrixView<float> out);

/// h [T, H] = block(h), in place.
KVANT_API void run_block(Context& context, const Config& config, const Block& block, Stream stream,
                         MatrixView<float> h, LayerCache& cache);

}  // namespace kvant::models
