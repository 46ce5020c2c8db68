#pragma once

/// @file
/// One transformer block of any family, and the float functions between its linear layers.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/cache.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/linear_layer.hpp"

namespace kvant::models {

/// Gain and shift of a norm; no weight: there is no such norm; no bias: nothing is added.
struct Norm {
  std::vector<float> weight;
  std::vector<float> bias;

  [[nodiscard]] bool empty() const { return weight.empty(); }
};

/// Layers that read the same input; their outputs lie side by side in a row.
struct KVANT_API Projection {
  std::vector<std::unique_ptr<LinearLayer>> parts;

  /// y [M, sum of the parts' outputs]; x is quantized once where the parts can share that, and goes
  /// to a device once.
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const;
  [[nodiscard]] std::size_t weight_bytes() const;
};

/// An MLP, or one expert of a mixture.
struct Mlp {
  Projection up;  ///< gate and up, or up alone
  std::unique_ptr<LinearLayer> down;
};

/// Attention of a decoder's tokens over an encoder's output.
struct CrossAttention {
  Norm norm;
  std::unique_ptr<LinearLayer> q;  ///< null: the block has no such attention
  Projection kv;                   ///< of the encoder's output: keys, values
  std::unique_ptr<LinearLayer> output;
};

/// One block. Config says which norms there are and where they act.
struct Block {
  Norm attention_norm;
  Norm attention_output_norm;
  Norm mlp_norm;
  Norm mlp_output_norm;
  Norm q_norm;
  Norm k_norm;
  Projection qkv;  ///< one fused layer, or three
  std::unique_ptr<LinearLayer> attention_output;
  CrossAttention cross;
  std::unique_ptr<LinearLayer> router;  ///< of a mixture of experts
  std::vector<Mlp> mlps;                ///< one, or the experts
};

/// What the values between layers are rounded to, after each operation as torch does.
enum class Stream : std::uint8_t { fp32, bf16 };

/// What the blocks of one call share: positions, and memory.
struct KVANT_API Pass : PassMemory {
  /// @param first position of the call's first token
  /// @param memory of an earlier call
  Pass(const Config& config, Stream stream, std::int64_t first, std::int64_t tokens,
       PassMemory memory = {});

  Stream stream;
  std::int64_t first;
  std::int64_t tokens;
  std::vector<float> cosines;  ///< rotary: [tokens, dims / 2], times the attention factor
  std::vector<float> sines;
  std::vector<float> slopes;  ///< ALiBi: by query head
  bool causal = true;         ///< a token sees those before it; false: all of the call
  /// Relative positions: by query head, for distances (key - query) from -max_distance to
  /// max_distance, which farther ones share.
  std::span<const float> distance_bias = {};
};

/// Row by row: out = norm(x), statistics in fp32. x and out may be the same.
KVANT_API void normalize(Context& context, const Config& config, MatrixView<const float> x,
                         const Norm& norm, Stream stream, MatrixView<float> out);

/// Applies the activation function to every element of x, in place.
KVANT_API void apply_activation(Context& context, Activation activation, Stream stream,
                                MatrixView<float> x);

/// out [M, I] = activation(first half of each row of x [M, 2 I]) * second half.
KVANT_API void apply_gate(Context& context, Activation activation, Stream stream,
                          MatrixView<float> x, MatrixView<float> out);

/// Attention of the call's tokens over the tokens in the cache, which they join: those before them,
/// or all. Queries and keys are normalized and rotated in place first, where the family does so.
/// @param qkv [T, q_dim + 2 kv_dim]
/// @param out [T, q_dim]
KVANT_API void attention(Context& context, const Config& config, const Block& block,
                         std::int64_t layer, const Pass& pass, MatrixView<float> qkv,
                         LayerCache& cache, MatrixView<float> out);

/// Attention of the call's tokens over an encoder's output.
/// @param q [T, q_dim]
/// @param source as read_source() makes it
/// @param out [T, q_dim]
KVANT_API void cross_attention(Context& context, const Config& config, const Pass& pass,
                               MatrixView<const float> q, const LayerCache& source,
                               MatrixView<float> out);

/// A decoder block's keys and values of an encoder's output [S, n_embd]; what `source` held is
/// gone.
KVANT_API void read_source(Context& context, const Config& config, const Block& block, Pass& pass,
                           MatrixView<const float> states, LayerCache& source);

/// out [T, n_embd] = the MLP of x, or the weighted sum of the experts that its router chooses.
KVANT_API void run_mlp(Context& context, const Config& config, const Block& block, Pass& pass,
                       LayerInput& x, MatrixView<float> out);

/// h [T, n_embd] = block number `layer` of h, in place.
/// @param source what a block with cross attention reads; null for others
KVANT_API void run_block(Context& context, const Config& config, const Block& block,
                         std::int64_t layer, Pass& pass, MatrixView<float> h, LayerCache& cache,
                         const LayerCache* source = nullptr);

}  // namespace kvant::models
