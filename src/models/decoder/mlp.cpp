// The MLP of a block: activations, gates, and mixtures of experts.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "kvant/models/block.hpp"
#include "models/decoder/rows.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

/// x * sigmoid(factor * (x + cubic * x^3)); the tanh form of gelu is one of them: 0.5 (1 + tanh u)
/// is 1 / (1 + e^-2u), without cancellation.
struct SigmoidForm {
  float factor;
  float cubic;
};

std::optional<SigmoidForm> sigmoid_form(Activation activation) {
  switch (activation) {
    case Activation::silu: return SigmoidForm{1.0f, 0.0f};
    case Activation::quick_gelu: return SigmoidForm{1.702f, 0.0f};
    case Activation::gelu_tanh: return SigmoidForm{1.5957691216057308f, 0.044715f};  // 2 sqrt(2/pi)
    case Activation::gelu_erf:
    case Activation::relu: break;
  }
  return std::nullopt;
}

/// out = activation(x) [* up]; up may be null, out may be x.
void activate(const VectorKernels& kernels, Activation activation, const float* x, const float* up,
              std::int64_t count, float* out) {
  if (const auto form = sigmoid_form(activation)) {
    kernels.gate({x, up, out, count, form->factor, form->cubic});
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = activation == Activation::relu ? std::max(x[i], 0.0f)
                                            : 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
    if (up != nullptr) out[i] *= up[i];
  }
}

std::vector<float>& sized(std::vector<float>& memory, std::int64_t rows, std::int64_t columns) {
  memory.resize(static_cast<std::size_t>(rows * columns));
  return memory;
}

void run_one(Context& context, const Config& config, const Mlp& mlp, Pass& pass, LayerInput& x,
             MatrixView<float> out) {
  const std::int64_t rows = out.rows();
  const std::int64_t width = config.n_inner * (config.gated_mlp ? 2 : 1);
  const MatrixView<float> inner(sized(pass.inner, rows, width).data(), rows, width);
  mlp.up.forward(context, x, inner);
  if (!config.gated_mlp) {
    apply_activation(context, config.activation, pass.stream, inner);
    LayerInput input(inner);
    mlp.down->forward(context, input, out);
    return;
  }
  const MatrixView<float> product(sized(pass.product, rows, config.n_inner).data(), rows,
                                  config.n_inner);
  apply_gate(context, config.activation, pass.stream, inner, product);
  LayerInput input(product);
  mlp.down->forward(context, input, out);
}

/// An expert's weight for a token.
struct Choice {
  std::int64_t token;
  float weight;
};

/// By expert, the tokens that it gets: the n_expert_used largest probabilities of each token, which
/// are then divided by their sum.
std::vector<std::vector<Choice>> choose_experts(const Config& config, MatrixView<float> scores) {
  std::vector<std::vector<Choice>> result(static_cast<std::size_t>(config.n_expert));
  std::vector<std::int64_t> order(static_cast<std::size_t>(config.n_expert));
  for (std::int64_t t = 0; t < scores.rows(); ++t) {
    ArrayMap row(scores.row_data(t), config.n_expert);
    row = (row - row.maxCoeff()).exp();
    row /= row.sum();
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
    float sum = 0;
    for (std::int64_t i = 0; i < config.n_expert_used; ++i) {
      sum += row[order[static_cast<std::size_t>(i)]];
    }
    for (std::int64_t i = 0; i < config.n_expert_used; ++i) {
      const std::int64_t expert = order[static_cast<std::size_t>(i)];
      result[static_cast<std::size_t>(expert)].push_back({t, row[expert] / sum});
    }
  }
  return result;
}

void run_mixture(Context& context, const Config& config, const Block& block, Pass& pass,
                 LayerInput& x, MatrixView<float> out) {
  const std::int64_t width = out.cols();
  const std::int64_t tokens = out.rows();
  std::vector<float> scores;
  const MatrixView<float> view(sized(scores, tokens, config.n_expert).data(), tokens,
                               config.n_expert);
  block.router->forward(context, x, view);
  const std::vector<std::vector<Choice>> choices = choose_experts(config, view);
  std::fill(out.data(), out.data() + out.size(), 0.0f);
  std::vector<float> gathered;
  for (std::size_t e = 0; e < choices.size(); ++e) {
    const auto rows = static_cast<std::int64_t>(choices[e].size());
    if (rows == 0) continue;
    sized(gathered, rows, width);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::memcpy(gathered.data() + r * width,
                  x.x().row_data(choices[e][static_cast<std::size_t>(r)].token),
                  static_cast<std::size_t>(width) * sizeof(float));
    }
    const MatrixView<float> y(sized(pass.routed, rows, width).data(), rows, width);
    LayerInput input(MatrixView<const float>(gathered.data(), rows, width), &pass.activations);
    run_one(context, config, block.mlps[e], pass, input, y);
    for (std::int64_t r = 0; r < rows; ++r) {
      const Choice& choice = choices[e][static_cast<std::size_t>(r)];
      ArrayMap(out.row_data(choice.token), width) +=
          ConstArrayMap(y.row_data(r), width) * choice.weight;
    }
  }
  if (pass.stream == Stream::bf16) round_to_bfloat16(out.data(), out.size());
}

}  // namespace

void apply_activation(Context& context, Activation activation, Stream stream, MatrixView<float> x) {
  const VectorKernels& kernels = vector_kernels(context.isa());
  by_rows(context, x.rows(), kExpCost * x.size(), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = (end - begin) * x.cols();
    float* values = x.row_data(begin);
    activate(kernels, activation, values, nullptr, count, values);
    if (stream == Stream::bf16) round_to_bfloat16(values, count);
  });
}

void apply_gate(Context& context, Activation activation, Stream stream, MatrixView<float> x,
                MatrixView<float> out) {
  const VectorKernels& kernels = vector_kernels(context.isa());
  const std::int64_t width = out.cols();
  by_rows(context, x.rows(), kExpCost * x.size(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* gate = x.row_data(r);
      const float* up = gate + width;
      if (stream != Stream::bf16) {
        activate(kernels, activation, gate, up, width, out.row_data(r));
        continue;
      }
      activate(kernels, activation, gate, nullptr, width, gate);
      round_to_bfloat16(gate, width);
      ArrayMap(out.row_data(r), width) = ConstArrayMap(gate, width) * ConstArrayMap(up, width);
      round_to_bfloat16(out.row_data(r), width);
    }
  });
}

void run_mlp(Context& context, const Config& config, const Block& block, Pass& pass, LayerInput& x,
             MatrixView<float> out) {
  if (block.router != nullptr) {
    run_mixture(context, config, block, pass, x, out);
  } else {
    run_one(context, config, block.mlps.front(), pass, x, out);
  }
}

}  // namespace kvant::models
