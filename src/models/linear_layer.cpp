#include "kvant/models/linear_layer.hpp"

// Threads come from kvant's Executor, so Eigen must not start its own.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "models/parallel.hpp"

namespace kvant::models {
namespace {

/// Outputs per task: fixed, so that results do not depend on the number of threads.
constexpr std::int64_t kOutputsPerTask = 64;

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor>;
using StridedMap = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

}  // namespace

void round_to_bfloat16(float* values, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(bfloat16(values[i]));
  }
}

void multiply_float(Context& context, MatrixView<const float> x, const WeightMatrix& w,
                    const std::vector<float>& bias, MatrixView<float> y) {
  const std::int64_t rows = x.rows();
  const std::int64_t inputs = x.cols();
  const std::int64_t outputs = w.rows();
  if (rows == 0) return;
  const std::int64_t tasks = (outputs + kOutputsPerTask - 1) / kOutputsPerTask;
  parallel_tasks(context, tasks, rows * inputs * outputs, [&](std::int64_t task) {
    thread_local std::vector<float> scratch;
    const std::int64_t first = task * kOutputsPerTask;
    const std::int64_t count = std::min(kOutputsPerTask, outputs - first);
    const ConstMap block(w.widen(context, first, count, scratch), count, inputs);
    if (rows == 1) {
      Eigen::Map<Eigen::VectorXf> out(y.data() + first, count);
      out.noalias() = block * Eigen::Map<const Eigen::VectorXf>(x.data(), inputs);
    } else {
      StridedMap out(y.data() + first, rows, count, Eigen::OuterStride<>(y.stride()));
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
