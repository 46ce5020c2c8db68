// Attention with a key-value cache: of tokens over those before them, over each other, and over
// what an encoder has read.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "kvant/models/block.hpp"
#include "models/decoder/norm.hpp"
#include "models/decoder/positions.hpp"
#include "models/decoder/rows.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

/// Query tokens per task of attention.
constexpr std::int64_t kTokensPerTask = 16;

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
  std::vector<float> gathered(apart ? static_cast<std::size_t>(2 * config.kv_dim()) : 0);
  for (std::int64_t t = 0; t < qkv.rows(); ++t) {
    const float* row = qkv.row_data(t);
    const float* key = row + layout.k(0);
    const float* value = row + layout.v(0);
    if (apart) {
      float* const keys = gathered.data();
      float* const values = keys + config.kv_dim();
      for (std::int64_t g = 0; g < config.n_kv_head; ++g) {
        std::copy_n(row + layout.k(g), layout.head_dim, keys + g * layout.head_dim);
        std::copy_n(row + layout.v(g), layout.head_dim, values + g * layout.head_dim);
      }
      key = keys;
      value = values;
    }
    cache.append(key, value, config.n_kv_head, layout.head_dim);
  }
}

/// Keys and values of a head, from the panel on that holds token `begin`.
struct HeadView {
  HeadView(const LayerCache& cache, const Config& config, std::int64_t kv_head, std::int64_t begin)
      : panel(begin / kPanelTokens), first(panel * kPanelTokens) {
    const std::int64_t key = (panel * config.kv_dim() + kv_head * config.head_dim) * kPanelTokens;
    const std::int64_t value = first * config.kv_dim() + kv_head * config.head_dim;
    const std::int64_t scale = (panel * config.n_kv_head + kv_head) * kPanelTokens;
    if (cache.format == KvFormat::fp32) {
      keys = cache.keys.floats.data() + key;
      values = cache.values.floats.data() + value;
    } else {
      key_codes = cache.keys.codes.data() + key;
      value_codes = cache.values.codes.data() + value;
      key_scales = cache.keys.scales.data() + scale;
      value_scales = cache.values.scales.data() + scale;
    }
  }

  std::int64_t panel;
  std::int64_t first;  ///< token
  const float* keys = nullptr;
  const float* values = nullptr;
  const std::int8_t* key_codes = nullptr;
  const std::int8_t* value_codes = nullptr;
  const float* key_scales = nullptr;
  const float* value_scales = nullptr;
};

/// Weights of tokens, times the scales of the values that they will be multiplied with.
void scale_weights(const HeadView& head, std::int64_t kv_heads, std::int64_t width, float* row) {
  for (std::int64_t t = 0; t < width; t += kPanelTokens) {
    const float* scales = head.value_scales + t * kv_heads;
    for (std::int64_t i = 0; i < kPanelTokens; ++i) {
      // A weight of 0 is no part of the sum, whatever the value.
      row[t + i] = row[t + i] == 0.0f ? 0.0f : row[t + i] * scales[i];
    }
  }
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

/// Relative positions: what the scores of the keys from `first` on get.
void add_distance_bias(std::span<const float> biases, std::int64_t max_distance, std::int64_t head,
                       std::int64_t position, std::int64_t first, ArrayMap row) {
  const float* at_zero = biases.data() + head * (2 * max_distance + 1) + max_distance;
  for (std::int64_t j = 0; j < row.size(); ++j) {
    row[j] += at_zero[std::clamp(first + j - position, -max_distance, max_distance)];
  }
}

/// Which keys of a cache a query sees, by their positions.
struct Sight {
  std::int64_t past;    ///< position of the call's first query
  std::int64_t window;  ///< 0: all
  bool causal;
  std::int64_t keys;  ///< in the cache

  [[nodiscard]] std::int64_t begin(std::int64_t position) const {
    return window > 0 ? std::max<std::int64_t>(0, position + 1 - window) : 0;
  }
  [[nodiscard]] std::int64_t end(std::int64_t position) const {
    return causal ? position + 1 : keys;
  }
};

/// out [T, q_dim] = attention of the queries in `q` over what they see of the cache.
/// @param biased by positions, as the pass says
void attend(Context& context, const Config& config, const QkvLayout& layout, const Pass& pass,
            MatrixView<const float> q, const LayerCache& cache, const Sight& sight, float scale,
            bool biased, MatrixView<float> out) {
  const std::int64_t head_dim = layout.head_dim;
  const std::int64_t kv_heads = config.n_kv_head;
  const std::int64_t group = layout.group;
  const std::int64_t past = sight.past;
  const std::int64_t tokens = q.rows();
  const VectorKernels& kernels = vector_kernels(context.isa());

  // A task is some query tokens times the heads that share a K/V head: one product with K, one
  // with V. Its first and last token decide which keys it sees; the rest is masked.
  const std::int64_t token_blocks = (tokens + kTokensPerTask - 1) / kTokensPerTask;
  const std::int64_t operations = 2 * tokens * cache.tokens * config.q_dim();
  parallel_tasks(context, token_blocks * kv_heads, operations, [&](std::int64_t task) {
    thread_local std::vector<float> queries;  // and then the result
    thread_local std::vector<float> scores;
    const std::int64_t kv_head = task % kv_heads;
    const std::int64_t first = task / kv_heads * kTokensPerTask;
    const std::int64_t count = std::min(kTokensPerTask, tokens - first);
    const std::int64_t rows = count * group;
    const HeadView head(cache, config, kv_head, sight.begin(past + first));
    const std::int64_t seen = sight.end(past + first + count - 1) - head.first;
    const std::int64_t panels = (seen + kPanelTokens - 1) / kPanelTokens;
    const std::int64_t width = panels * kPanelTokens;

    queries.resize(static_cast<std::size_t>(rows * head_dim));
    scores.resize(static_cast<std::size_t>(rows * width));
    for (std::int64_t r = 0; r < rows; ++r) {
      std::memcpy(queries.data() + r * head_dim,
                  q.row_data(first + r / group) + layout.q(kv_head * group + r % group),
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
    kernels.scores({queries.data(), rows, head_dim, head.keys, head.key_codes, head.key_scales,
                    config.kv_dim() * kPanelTokens, kv_heads * kPanelTokens, panels, scale,
                    scores.data(), width});
    for (std::int64_t r = 0; r < rows; ++r) {
      float* row = scores.data() + r * width;
      if (config.attention_softcap > 0) {
        ArrayMap capped(row, width);
        capped = (capped * (1.0f / config.attention_softcap)).tanh() * config.attention_softcap;
      }
      const std::int64_t position = past + first + r / group;
      const std::int64_t number = kv_head * group + r % group;
      if (biased && !pass.slopes.empty()) {
        add_alibi(config, pass.slopes[static_cast<std::size_t>(number)], head.first, scale,
                  ArrayMap(row, seen));
      }
      if (biased && !pass.distance_bias.empty()) {
        add_distance_bias(pass.distance_bias, config.relative.max_distance, number, position,
                          head.first, ArrayMap(row, seen));
      }
      kernels.softmax(
          {row, sight.begin(position) - head.first, sight.end(position) - head.first, width});
      if (head.value_scales != nullptr) scale_weights(head, kv_heads, width, row);
    }
    kernels.mix({scores.data(), width, rows, seen, head.values, head.value_codes, config.kv_dim(),
                 head_dim, queries.data()});
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t number = kv_head * group + r % group;
      std::memcpy(out.row_data(first + r / group) + number * head_dim,
                  queries.data() + r * head_dim,
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  });
  if (pass.stream == Stream::bf16) round_to_bfloat16(out.data(), out.size());
}

}  // namespace

void attention(Context& context, const Config& config, const Block& block, std::int64_t layer,
               const Pass& pass, MatrixView<float> qkv, LayerCache& cache, MatrixView<float> out) {
  const QkvLayout layout(config);
  const std::int64_t past = cache.tokens;
  prepare(context, config, block, layout, pass, qkv);
  append_to_cache(config, layout, qkv, cache);
  const float scale =
      config.attention_scale / (config.scale_by_layer ? static_cast<float>(layer + 1) : 1.0f);
  const Sight sight{past, config.window(layer), pass.causal, cache.tokens};
  attend(context, config, layout, pass, qkv, cache, sight, scale, true, out);
}

void cross_attention(Context& context, const Config& config, const Pass& pass,
                     MatrixView<const float> q, const LayerCache& source, MatrixView<float> out) {
  const Sight all{0, 0, false, source.tokens};
  attend(context, config, QkvLayout(config), pass, q, source, all, config.attention_scale, false,
         out);
}

void read_source(Context& context, const Config& config, const Block& block, Pass& pass,
                 MatrixView<const float> states, LayerCache& source) {
  const std::int64_t tokens = states.rows();
  pass.qkv.resize(static_cast<std::size_t>(tokens * 2 * config.kv_dim()));
  const MatrixView<float> kv(pass.qkv.data(), tokens, 2 * config.kv_dim());
  LayerInput input(states, &pass.activations);
  block.cross.kv.forward(context, input, kv);
  source.clear();
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* row = kv.row_data(t);
    source.append(row, row + config.kv_dim(), config.n_kv_head, config.head_dim);
  }
}

}  // namespace kvant::models
