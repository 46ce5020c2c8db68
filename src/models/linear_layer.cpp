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
/// Rows and inputs from which turning weights into panels for the vector kernels pays. Below it
/// Eigen multiplies, compiled for a plain x86-64: memory or the call limits.
constexpr std::int64_t kPanelRows = 16;
constexpr std::int64_t kPanelInputs = 256;

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

/// Sixteen outputs at a time by the vector kernels: [first, first + outputs).
void multiply_panels(const VectorKernels& kernels, MatrixView<const float> x, const float* weights,
                     std::int64_t outputs, float* y, std::int64_t y_stride) {
  thread_local std::vector<float> panel;
  panel.resize(static_cast<std::size_t>(x.cols() * kPanelTokens));
  for (std::int64_t n = 0; n < outputs; n += kPanelTokens) {
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
}

}  // namespace

void multiply_float(Context& context, MatrixView<const float> x, const WeightMatrix& w,
                    const std::vector<float>& bias, MatrixView<float> y) {
  const std::int64_t rows = x.rows();
  const std::int64_t inputs = x.cols();
  const std::int64_t outputs = w.rows();
  if (rows == 0) return;
  const VectorKernels& kernels = vector_kernels(context.isa());
  const std::int64_t tasks = (outputs + kOutputsPerTask - 1) / kOutputsPerTask;
  parallel_tasks(context, tasks, rows * inputs * outputs, [&](std::int64_t task) {
    thread_local std::vector<float> scratch;
    const std::int64_t first = task * kOutputsPerTask;
    const std::int64_t count = std::min(kOutputsPerTask, outputs - first);
    const float* const weights = w.widen(context, first, count, scratch);
    const std::int64_t in_panels =
        rows < kPanelRows || inputs < kPanelInputs ? 0 : count / kPanelTokens * kPanelTokens;
    multiply_panels(kernels, x, weights, in_panels, y.data() + first, y.stride());
    const std::int64_t rest = count - in_panels;
    const ConstMap block(weights + in_panels * inputs, rest, inputs);
    float* const to = y.data() + first + in_panels;
    if (rest == 0) {
      // All of it is done.
    } else if (rows == 1) {
      Eigen::Map<Eigen::VectorXf> out(to, rest);
      out.noalias() = block * Eigen::Map<const Eigen::VectorXf>(x.data(), inputs);
    } else {
      StridedMap out(to, rows, rest, Eigen::OuterStride<>(y.stride()));
      out.noalias() = ConstMap(x.data(), rows, inputs) * block.transpose();
    }
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
