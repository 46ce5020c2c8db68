// Causal attention with a key-value cache.

#include <cmath>
#include <cstring>

#include "kvant/models/block.hpp"
#include "models/decoder/norm.hpp"
#include "models/decoder/positions.hpp"
#include "models/decoder/rows.hpp"

namespace kvant::models {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using StridedConstMap = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;

/// Query tokens per task of attention.
constexpr std::int64_t kTokensPerTask = 32;

/// q, k and v of one token inside a row of the projection's output.
struct QkvLayout {
  explicit QkvLayout(const Config& config)
      : head_dim(config.head_dim),
        group(config.n_head / config.n_kv_head),
        kv_stride(config.qkv_by_head ? (group + 2) * head_dim : head_dim),
        q_stride(config.qkv_by_head ? kv_stride : group * head_dim),
        k_offset(config.qkv_by_head ? group * head_dim : config.q_dim()),
        v_offset(config.qkv_by_head ? k_offset + head_dim : k_offset + config.kv_dim()) {}

  [[nodiscard]] std::int64_t q(std::int64_t head) const {
    return head / group * q_stride + head % group * head_dim;
  }
  [[nodiscard]] std::int64_t k(std::int64_t kv_head) const {
    return k_offset + kv_head * kv_stride;
  }
  [[nodiscard]] std::int64_t v(std::int64_t kv_head) const {
    return v_offset + kv_head * kv_stride;
  }

  std::int64_t head_dim;
  std::int64_t group;  ///< query heads that share a K/V head
  std::int64_t kv_stride;
  std::int64_t q_stride;
  std::int64_t k_offset;
  std::int64_t v_offset;
};

/// Norms of queries and keys: of each head, or of all at once (which then lie side by side).
void normalize_heads(const Config& config, const Norm& norm, std::int64_t heads, float* first,
                     std::int64_t stride) {
  if (!config.qk_norm_per_head) {
    normalize_row(config, norm, first, heads * config.head_dim, first);
    return;
  }
  for (std::int64_t h = 0; h < heads; ++h) {
    normalize_row(config, norm, first + h * stride, config.head_dim, first + h * stride);
  }
}

/// Queries and keys of the call's tokens become what attention compares.
void prepare(Context& context, const Config& config, const Block& block, const QkvLayout& layout,
             const Pass& pass, MatrixView<float> qkv) {
  const bool rotary = config.positions == Positions::rotary;
  if (!rotary && block.q_norm.empty()) return;
  const std::int64_t half = config.rotary.dims / 2;
  by_rows(context, qkv.rows(), 4 * qkv.size(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      float* row = qkv.row_data(t);
      if (!block.q_norm.empty()) {
        normalize_heads(config, block.q_norm, config.n_head, row + layout.q(0), config.head_dim);
        normalize_heads(config, block.k_norm, config.n_kv_head, row + layout.k(0),
                        layout.kv_stride);
      }
      if (rotary) {
        const float* cosines = pass.cosines.data() + t * half;
        const float* sines = pass.sines.data() + t * half;
        for (std::int64_t h = 0; h < config.n_head; ++h) {
          rotate(row + layout.q(h), cosines, sines, half);
        }
        for (std::int64_t h = 0; h < config.n_kv_head; ++h) {
          rotate(row + layout.k(h), cosines, sines, half);
        }
      }
      if (pass.stream == Stream::bf16) round_to_bfloat16(row, qkv.cols());
    }
  });
}

void append_to_cache(const Config& config, const QkvLayout& layout, MatrixView<const float> qkv,
                     LayerCache& cache) {
  // A fused projection has a head's key and value beside its queries.
  const bool apart = layout.kv_stride != layout.head_dim;
  std::vector<float> gathered(apart ? static_cast<std::size_t>(config.kv_dim()) : 0);
  const auto append = [&](KvRows& rows, const float* first) {
    for (std::int64_t g = 0; apart && g < config.n_kv_head; ++g) {
      std::copy_n(first + g * layout.kv_stride, layout.head_dim,
                  gathered.data() + g * layout.head_dim);
    }
    rows.append(cache.format, apart ? gathered.data() : first, config.n_kv_head, layout.head_dim);
  };
  for (std::int64_t t = 0; t < qkv.rows(); ++t) {
    append(cache.keys, qkv.row_data(t) + layout.k(0));
    append(cache.values, qkv.row_data(t) + layout.v(0));
  }
}

/// Softmax over [begin, end) of a row, zero outside.
void softmax(float* row, std::int64_t begin, std::int64_t end, std::int64_t width) {
  ArrayMap seen(row + begin, end - begin);
  const float largest = seen.maxCoeff();
  seen = (seen - largest).exp();
  seen *= 1.0f / seen.sum();
  std::fill(row, row + begin, 0.0f);
  std::fill(row + end, row + width, 0.0f);
}

/// ALiBi's bias for the keys from `first` on. Falcon rounds slopes and biases to bf16, and scales
/// them as it scales the products.
void add_alibi(const Config& config, float slope, std::int64_t first, float scale, ArrayMap row) {
  if (!config.alibi_bf16) {
    for (std::int64_t j = 0; j < row.size(); ++j) row[j] += slope * static_cast<float>(first + j);
    return;
  }
  const auto rounded = static_cast<float>(bfloat16(slope));
  for (std::int64_t j = 0; j < row.size(); ++j) {
    row[j] += static_cast<float>(bfloat16(rounded * static_cast<float>(first + j))) * scale;
  }
}

}  // namespace

void attention(Context& context, const Config& config, const Block& block, std::int64_t layer,
               const Pass& pass, MatrixView<float> qkv, LayerCache& cache, MatrixView<float> out) {
  const QkvLayout layout(config);
  const std::int64_t head_dim = layout.head_dim;
  const std::int64_t kv_heads = config.n_kv_head;
  const std::int64_t group = layout.group;
  const std::int64_t past = cache.tokens(config.kv_dim());
  const std::int64_t tokens = qkv.rows();
  prepare(context, config, block, layout, pass, qkv);
  append_to_cache(config, layout, qkv, cache);
  const float scale =
      config.attention_scale / (config.scale_by_layer ? static_cast<float>(layer + 1) : 1.0f);
  const std::int64_t window = config.window(layer);
  const auto first_seen = [window](std::int64_t position) {
    return window > 0 ? std::max<std::int64_t>(0, position + 1 - window) : 0;
  };

  // A task is some query tokens times the heads that share a K/V head: one product with K, one
  // with V. Its first and last token decide which keys it sees; the rest is masked.
  const std::int64_t token_blocks = (tokens + kTokensPerTask - 1) / kTokensPerTask;
  const std::int64_t operations = 2 * tokens * (past + tokens) * config.q_dim();
  parallel_tasks(context, token_blocks * kv_heads, operations, [&](std::int64_t task) {
    thread_local std::vector<float> queries_memory;
    thread_local std::vector<float> scores_memory;
    thread_local std::vector<float> keys_memory;  // where they are codes
    thread_local std::vector<float> values_memory;
    const std::int64_t kv_head = task % kv_heads;
    const std::int64_t first = task / kv_heads * kTokensPerTask;
    const std::int64_t count = std::min(kTokensPerTask, tokens - first);
    const std::int64_t begin = first_seen(past + first);
    const std::int64_t seen = past + first + count - begin;
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
    std::int64_t key_stride = 0;
    std::int64_t value_stride = 0;
    const float* first_key =
        cache.keys.head(kv_head, kv_heads, head_dim, begin, seen, keys_memory, key_stride);
    const float* first_value =
        cache.values.head(kv_head, kv_heads, head_dim, begin, seen, values_memory, value_stride);
    const StridedConstMap keys(first_key, seen, head_dim, Eigen::OuterStride<>(key_stride));
    const StridedConstMap values(first_value, seen, head_dim, Eigen::OuterStride<>(value_stride));
    scores.noalias() = queries * keys.transpose();
    scores *= scale;
    if (config.attention_softcap > 0) {
      scores =
          (scores.array() * (1.0f / config.attention_softcap)).tanh() * config.attention_softcap;
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      float* row = scores_memory.data() + r * seen;
      if (!pass.slopes.empty()) {
        const auto head = static_cast<std::size_t>(kv_head * group + r % group);
        add_alibi(config, pass.slopes[head], begin, scale, ArrayMap(row, seen));
      }
      const std::int64_t position = past + first + r / group;
      softmax(row, first_seen(position) - begin, position + 1 - begin, seen);
    }
    queries.noalias() = scores * values;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t head = kv_head * group + r % group;
      std::memcpy(out.row_data(first + r / group) + head * head_dim,
                  queries_memory.data() + r * head_dim,
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  });
  if (pass.stream == Stream::bf16) round_to_bfloat16(out.data(), out.size());
}

}  // namespace kvant::models
