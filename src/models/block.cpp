#include "kvant/models/block.hpp"

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/parallel.hpp"

namespace kvant::models {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using StridedConstMap = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;
using ArrayMap = Eigen::Map<Eigen::ArrayXf>;
using ConstArrayMap = Eigen::Map<const Eigen::ArrayXf>;

/// Rows of activations per task of the element-wise functions.
constexpr std::int64_t kRowsPerTask = 16;
/// Query tokens per task of attention.
constexpr std::int64_t kTokensPerTask = 32;
/// What an exponential costs, in multiplications.
constexpr std::int64_t kExpCost = 8;

template <class Function>
void by_rows(Context& context, std::int64_t rows, std::int64_t operations, Function&& function) {
  parallel_tasks(context, (rows + kRowsPerTask - 1) / kRowsPerTask, operations,
                 [&](std::int64_t task) {
                   const std::int64_t first = task * kRowsPerTask;
                   function(first, std::min(rows, first + kRowsPerTask));
                 });
}

// The tanh forms are x * sigmoid(2u): 0.5 (1 + tanh u) = 1 / (1 + e^-2u), without cancellation.
void activate(Activation activation, ArrayMap x) {
  switch (activation) {
    case Activation::gelu_erf:
      for (float& value : x) value = 0.5f * value * (1.0f + std::erf(value * 0.70710678f));
      break;
    case Activation::gelu_tanh: {
      constexpr float kTwiceSqrt2OverPi = 1.5957691216057308f;
      x = x / (1.0f + (-kTwiceSqrt2OverPi * (x + 0.044715f * x * x * x)).exp());
      break;
    }
    case Activation::quick_gelu: x = x / (1.0f + (-1.702f * x).exp()); break;
    case Activation::silu: x = x / (1.0f + (-x).exp()); break;
    case Activation::relu: x = x.max(0.0f); break;
  }
}

/// q, k and v of one token inside a row of c_attn's output.
struct QkvLayout {
  explicit QkvLayout(const Config& config)
      : head_dim(config.head_dim()),
        q_stride(config.multi_query ? head_dim : 3 * head_dim),
        k_offset(config.multi_query ? config.n_embd : head_dim),
        kv_stride(config.multi_query ? 0 : 3 * head_dim) {}

  [[nodiscard]] std::int64_t q(std::int64_t head) const { return head * q_stride; }
  [[nodiscard]] std::int64_t k(std::int64_t kv_head) const {
    return k_offset + kv_head * kv_stride;
  }
  [[nodiscard]] std::int64_t v(std::int64_t kv_head) const { return k(kv_head) + head_dim; }

  std::int64_t head_dim;
  std::int64_t q_stride;
  std::int64_t k_offset;
  std::int64_t kv_stride;
};

void append_to_cache(const Config& config, const QkvLayout& layout, MatrixView<const float> qkv,
                     LayerCache& cache) {
  const auto head_bytes = static_cast<std::size_t>(layout.head_dim) * sizeof(float);
  const auto old = cache.keys.size();
  const auto added = static_cast<std::size_t>(qkv.rows() * config.kv_dim());
  cache.keys.resize(old + added);
  cache.values.resize(old + added);
  float* keys = cache.keys.data() + old;
  float* values = cache.values.data() + old;
  for (std::int64_t t = 0; t < qkv.rows(); ++t) {
    for (std::int64_t g = 0; g < config.kv_heads(); ++g) {
      std::memcpy(keys, qkv.row_data(t) + layout.k(g), head_bytes);
      std::memcpy(values, qkv.row_data(t) + layout.v(g), head_bytes);
      keys += layout.head_dim;
      values += layout.head_dim;
    }
  }
}

/// Softmax over the first `count` of a row, zero after it.
void softmax(float* row, std::int64_t count, std::int64_t width) {
  ArrayMap seen(row, count);
  const float largest = seen.maxCoeff();
  seen = (seen - largest).exp();
  seen *= 1.0f / seen.sum();
  std::fill(row + count, row + width, 0.0f);
}

}  // namespace

void layer_norm(Context& context, MatrixView<const float> x, const LayerNorm& norm, float epsilon,
                Stream stream, MatrixView<float> out) {
  const std::int64_t width = x.cols();
  const ConstArrayMap weight(norm.weight.data(), width);
  const ConstArrayMap bias(norm.bias.data(), width);
  by_rows(context, x.rows(), 4 * x.size(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const ConstArrayMap row(x.row_data(r), width);
      const float mean = row.mean();
      const float variance = (row - mean).square().mean();
      ArrayMap(out.row_data(r), width) =
          (row - mean) * (1.0f / std::sqrt(variance + epsilon)) * weight + bias;
      if (stream == Stream::bf16) round_to_bfloat16(out.row_data(r), width);
    }
  });
}

void apply_activation(Context& context, Activation activation, Stream stream, MatrixView<float> x) {
  by_rows(context, x.rows(), kExpCost * x.size(), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = (end - begin) * x.cols();
    activate(activation, ArrayMap(x.row_data(begin), count));
    if (stream == Stream::bf16) round_to_bfloat16(x.row_data(begin), count);
  });
}

void attention(Context& context, const Config& config, MatrixView<const float> qkv,
               LayerCache& cache, Stream stream, MatrixView<float> out) {
  const QkvLayout layout(config);
  const std::int64_t head_dim = layout.head_dim;
  const std::int64_t kv_dim = config.kv_dim();
  const std::int64_t kv_heads = config.kv_heads();
  const std::int64_t group = config.n_head / kv_heads;  // query heads that share a K/V head
  const auto past = static_cast<std::int64_t>(cache.keys.size()) / kv_dim;
  const std::int64_t tokens = qkv.rows();
  append_to_cache(config, layout, qkv, cache);
  const float scale =
      config.scale_attn_weights ? 1.0f / std::sqrt(static_cast<float>(head_dim)) : 1.0f;

  // A task is some query tokens times the heads that share a K/V head: one product with K, one
  // with V. The last token of a task decides how far it looks; the rest is masked.
  const std::int64_t token_blocks = (tokens + kTokensPerTask - 1) / kTokensPerTask;
  const std::int64_t operations = 2 * tokens * (past + tokens) * config.n_embd;
  parallel_tasks(context, token_blocks * kv_heads, operations, [&](std::int64_t task) {
    thread_local std::vector<float> queries_memory;
    thread_local std::vector<float> scores_memory;
    const std::int64_t kv_head = task % kv_heads;
    const std::int64_t first = task / kv_heads * kTokensPerTask;
    const std::int64_t count = std::min(kTokensPerTask, tokens - first);
    const std::int64_t seen = past + first + count;
    const std::int64_t rows = count * group;

    queries_memory.resize(static_cast<std::size_t>(rows * head_dim));
    scores_memory.resize(static_cast<std::size_t>(rows * seen));
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t head = kv_head * group + r % group;
      std::memcpy(queries_memory.data() + r * head_dim,
                  qkv.row_data(first + r / group) + layout.q(head),
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
    Eigen::Map<RowMajor> queries(queries_memory.data(), rows, head_dim);
    Eigen::Map<RowMajor> scores(scores_memory.data(), rows, seen);
    const StridedConstMap keys(cache.keys.data() + kv_head * head_dim, seen, head_dim,
                               Eigen::OuterStride<>(kv_dim));
    const StridedConstMap values(cache.values.data() + kv_head * head_dim, seen, head_dim,
                                 Eigen::OuterStride<>(kv_dim));
    scores.noalias() = queries * keys.transpose();
    scores *= scale;
    for (std::int64_t r = 0; r < rows; ++r) {
      softmax(scores_memory.data() + r * seen, past + first + r / group + 1, seen);
    }
    queries.noalias() = scores * values;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t head = kv_head * group + r % group;
      std::memcpy(out.row_data(first + r / group) + head * head_dim,
                  queries_memory.data() + r * head_dim,
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  });
  if (stream == Stream::bf16) round_to_bfloat16(out.data(), out.size());
}

void run_block(Context& context, const Config& config, const Block& block, Stream stream,
               MatrixView<float> h, LayerCache& cache) {
  const std::int64_t tokens = h.rows();
  const std::int64_t width = config.n_embd;
  const std::int64_t qkv_width = width + 2 * config.kv_dim();
  const auto floats = [tokens](std::int64_t columns) {
    return std::vector<float>(static_cast<std::size_t>(tokens * columns));
  };
  std::vector<float> normed = floats(width);
  std::vector<float> result = floats(width);
  const MatrixView<float> a(normed.data(), tokens, width);
  const MatrixView<float> y(result.data(), tokens, width);
  const auto add_to_stream = [&] {
    Eigen::Map<Eigen::ArrayXf>(h.data(), h.size()) += ConstArrayMap(y.data(), y.size());
    if (stream == Stream::bf16) round_to_bfloat16(h.data(), h.size());
  };
  {
    std::vector<float> memory = floats(qkv_width);
    const MatrixView<float> qkv(memory.data(), tokens, qkv_width);
    layer_norm(context, h, block.ln_1, config.layer_norm_epsilon, stream, a);
    block.c_attn->forward(context, a, qkv);
    attention(context, config, qkv, cache, stream, a);
    block.attn_c_proj->forward(context, a, y);
    add_to_stream();
  }
  std::vector<float> memory = floats(config.n_inner);
  const MatrixView<float> inner(memory.data(), tokens, config.n_inner);
  layer_norm(context, h, block.ln_2, config.layer_norm_epsilon, stream, a);
  block.c_fc->forward(context, a, inner);
  apply_activation(context, config.activation, stream, inner);
  block.mlp_c_proj->forward(context, inner, y);
  add_to_stream();
}

}  // namespace kvant::models
