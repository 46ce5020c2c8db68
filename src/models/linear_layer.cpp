#include "kvant/models/linear_layer.hpp"

// Threads come from kvant's Executor, so Eigen must not start its own.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "models/parallel.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

/// Outputs per task: fixed, so that results do not depend on the number of threads.
constexpr std::int64_t kOutputsPerTask = 64;
/// Inputs from which the vector kernels multiply, which add in another order than most libraries;
/// and rows from which they turn weights into panels first.
constexpr std::int64_t kVectorInputs = 256;
constexpr std::int64_t kPanelRows = 16;

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor>;
using StridedMap = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

}  // namespace

void round_to_bfloat16(float* values, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(bfloat16(values[i]));
  }
}

namespace {

/// y [rows, outputs] of the weights' rows by the vector kernels.
void multiply_panels(const VectorKernels& kernels, MatrixView<const float> x, const float* weights,
                     std::int64_t outputs, float* y, std::int64_t y_stride) {
  thread_local std::vector<float> panel;
  panel.resize(static_cast<std::size_t>(x.cols() * kPanelTokens));
  std::int64_t n = 0;
  for (; n + kPanelTokens <= outputs; n += kPanelTokens) {
    kernels.panel({weights + n * x.cols(), x.cols(), x.cols(), panel.data()});
    kernels.scores({.queries = x.data(),
                    .rows = x.rows(),
                    .head_dim = x.cols(),
                    .keys = panel.data(),
                    .codes = nullptr,
                    .code_scales = nullptr,
                    .panel_stride = 0,
                    .scale_stride = 0,
                    .panels = 1,
                    .scale = 1.0f,
                    .out = y + n,
                    .out_stride = y_stride});
  }
  kernels.dot({x.data(), x.rows(), x.cols(), weights + n * x.cols(), nullptr, outputs - n, y + n,
               y_stride});
}

/// y [rows, outputs] of the outputs [first, first + outputs), without biases.
void multiply_outputs(Context& context, MatrixView<const float> x, const WeightMatrix& w,
                      std::int64_t first, std::int64_t outputs, float* y, std::int64_t y_stride) {
  thread_local std::vector<float> scratch;
  const std::int64_t rows = x.rows();
  const std::int64_t inputs = x.cols();
  const VectorKernels& kernels = vector_kernels(context.isa());
  const bool few = rows < kPanelRows;
  if (inputs >= kVectorInputs && few && w.dtype() == DType::bfloat16) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(w.row_data(first));
    kernels.dot({x.data(), rows, inputs, nullptr, halves, outputs, y, y_stride});
    return;
  }
  const float* const weights = w.widen(context, first, outputs, scratch);
  if (inputs >= kVectorInputs && few) {
    kernels.dot({x.data(), rows, inputs, weights, nullptr, outputs, y, y_stride});
  } else if (inputs >= kVectorInputs) {
    multiply_panels(kernels, x, weights, outputs, y, y_stride);
  } else if (rows == 1) {
    Eigen::Map<Eigen::VectorXf> out(y, outputs);
    out.noalias() =
        ConstMap(weights, outputs, inputs) * Eigen::Map<const Eigen::VectorXf>(x.data(), inputs);
  } else {
    StridedMap out(y, rows, outputs, Eigen::OuterStride<>(y_stride));
    out.noalias() =
        ConstMap(x.data(), rows, inputs) * ConstMap(weights, outputs, inputs).transpose();
  }
}

}  // namespace

void multiply_float(Context& context, MatrixView<const float> x, const WeightMatrix& w,
                    const std::vector<float>& bias, MatrixView<float> y) {
  const std::int64_t rows = x.rows();
  const std::int64_t outputs = w.rows();
  if (rows == 0) return;
  const std::int64_t tasks = (outputs + kOutputsPerTask - 1) / kOutputsPerTask;
  parallel_tasks(context, tasks, rows * x.cols() * outputs, [&](std::int64_t task) {
    const std::int64_t first = task * kOutputsPerTask;
    const std::int64_t count = std::min(kOutputsPerTask, outputs - first);
    multiply_outputs(context, x, w, first, count, y.data() + first, y.stride());
    if (bias.empty()) return;
    for (std::int64_t r = 0; r < rows; ++r) {
      float* out = y.row_data(r) + first;
      const float* b = bias.data() + first;
      for (std::int64_t i = 0; i < count; ++i) out[i] += b[i];
    }
  });
}

void LayerInput::forward(Context& context, const Linear& layer, AnyMatrix y) {
  if (shared_ == nullptr) {
    layer.forward(context, x_, y);
    return;
  }
  if (made_for_ == nullptr || !layer.shares_activations_with(*made_for_)) {
    layer.quantize_activations(context, x_, *shared_);
    made_for_ = &layer;
  }
  layer.forward(context, *shared_, y);
}

void FloatLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  multiply_float(context, x.x(), weights_, bias_, y);
  if (!round_to_bf16_) return;
  for (std::int64_t r = 0; r < y.rows(); ++r) round_to_bfloat16(y.row_data(r), y.cols());
}

std::size_t FloatLinear::weight_bytes() const {
  const std::size_t element = round_to_bf16_ ? sizeof(bfloat16) : sizeof(float);
  return weights_.bytes() + bias_.size() * element;
}

void ReorderedLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  const MatrixView<const float> from = x.x();
  std::vector<float> columns(static_cast<std::size_t>(from.rows()) * order_.size());
  const auto width = std::ssize(order_);
  parallel_tasks(context, from.rows(), from.rows() * width, [&](std::int64_t r) {
    const float* const row = from.row_data(r);
    float* const to = columns.data() + r * width;
    for (std::int64_t j = 0; j < width; ++j) to[j] = row[order_[static_cast<std::size_t>(j)]];
  });
  LayerInput reordered(MatrixView<const float>(columns.data(), from.rows(), width));
  layer_->forward(context, reordered, y);
}

void AdaptedLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  layer_->forward(context, x, y);
  adapter_.add_to(context, x.x(), y);
  if (!round_to_bf16_) return;
  for (std::int64_t r = 0; r < y.rows(); ++r) round_to_bfloat16(y.row_data(r), y.cols());
}

ObservingLinear::ObservingLinear(const WeightMatrix& weights, const std::vector<float>& bias,
                                 float threshold)
    : weights_(weights),
      bias_(bias),
      threshold_(threshold),
      seen_(static_cast<std::size_t>(weights.cols())) {}

void ObservingLinear::forward(Context& context, LayerInput& input, MatrixView<float> y) const {
  const MatrixView<const float> x = input.x();
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      if (std::fabs(x(r, c)) >= threshold_) seen_[static_cast<std::size_t>(c)] = true;
    }
  }
  multiply_float(context, x, weights_, bias_, y);
}

std::vector<std::int64_t> ObservingLinear::outlier_columns() const {
  std::vector<std::int64_t> result;
  for (std::size_t c = 0; c < seen_.size(); ++c) {
    if (seen_[c]) result.push_back(static_cast<std::int64_t>(c));
  }
  return result;
}

}  // namespace kvant::models
