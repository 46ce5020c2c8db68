#pragma once

/// @file
/// y = x W^T + b in every arithmetic the models know, behind one interface.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/adapter.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/models/weight_matrix.hpp"

namespace kvant::models {

class Device;

/// What one layer reads, or several: they share one quantization of it where they can.
class KVANT_API LayerInput {
 public:
  /// @param x contiguous; must outlive the object
  /// @param shared memory for its quantized form, which later inputs may use again; null: each
  /// layer
  ///        quantizes x for itself, which is the shorter way for a single one
  explicit LayerInput(MatrixView<const float> x, QuantizedActivations* shared = nullptr)
      : x_(x), shared_(shared) {}

  [[nodiscard]] MatrixView<const float> x() const noexcept { return x_; }
  /// y = layer(x). x is quantized only where no layer before has done it in the way that this one
  /// takes it.
  void forward(Context& context, const Linear& layer, AnyMatrix y);
  /// What LinearLayer::start has started with this input is in its y then.
  /// @throws Error device_failed
  void finish();

 private:
  friend class Device;
  MatrixView<const float> x_;
  QuantizedActivations* shared_;
  const Linear* made_for_ = nullptr;
  Device* device_ = nullptr;  ///< where x is too, as its input of this number
  std::uint64_t number_there_ = 0;
};

/// A layer as the blocks of a model see it.
class KVANT_API LinearLayer {
 public:
  virtual ~LinearLayer() = default;
  /// x [M, in]; y [M, out], of any stride.
  virtual void forward(Context& context, LayerInput& x, MatrixView<float> y) const = 0;
  /// The same for one of several layers that read x: y may be there only after x.finish(), and must
  /// stay until then. A layer on a device works meanwhile.
  virtual void start(Context& context, LayerInput& x, MatrixView<float> y) const {
    forward(context, x, y);
  }
  [[nodiscard]] virtual std::int64_t out_features() const = 0;
  /// Bytes of weights, scales and bias.
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;
};

/// fp32 arithmetic on weights kept in fp32, fp16 or bf16. With round_to_bf16 the output is rounded
/// to bf16 once, after the bias: torch's bf16 layer, given inputs that are bf16 values.
class KVANT_API FloatLinear final : public LinearLayer {
 public:
  FloatLinear(WeightMatrix weights, std::vector<float> bias, bool round_to_bf16 = false)
      : weights_(std::move(weights)), bias_(std::move(bias)), round_to_bf16_(round_to_bf16) {}
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  [[nodiscard]] std::int64_t out_features() const override { return weights_.rows(); }
  [[nodiscard]] std::size_t weight_bytes() const override;
  [[nodiscard]] const WeightMatrix& weights() const noexcept { return weights_; }
  [[nodiscard]] const std::vector<float>& bias() const noexcept { return bias_; }

 private:
  WeightMatrix weights_;
  std::vector<float> bias_;
  bool round_to_bf16_;
};

/// kvant's layer, with weights of any format.
class KVANT_API QuantizedLinear final : public LinearLayer {
 public:
  explicit QuantizedLinear(Linear layer) : layer_(std::move(layer)) {}
  [[nodiscard]] const Linear& linear() const noexcept { return layer_; }
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override {
    x.forward(context, layer_, y);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_.out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_.weight_bytes(); }

 private:
  Linear layer_;
};

/// A layer whose weights have their inputs in another order: GPTQ's act order, where the inputs of
/// a group of weights are no neighbours in x. Cost: a copy of x.
class KVANT_API ReorderedLinear final : public LinearLayer {
 public:
  /// @param order  input j of the layer's weights is column order[j] of x
  ReorderedLinear(std::unique_ptr<LinearLayer> layer, std::vector<std::int32_t> order)
      : layer_(std::move(layer)), order_(std::move(order)) {}
  [[nodiscard]] const LinearLayer& layer() const noexcept { return *layer_; }
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  [[nodiscard]] std::int64_t out_features() const override { return layer_->out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override {
    return layer_->weight_bytes() + order_.size() * sizeof(std::int32_t);
  }

 private:
  std::unique_ptr<LinearLayer> layer_;
  std::vector<std::int32_t> order_;
};

/// Any layer with a low-rank correction beside it.
class KVANT_API AdaptedLinear final : public LinearLayer {
 public:
  AdaptedLinear(std::unique_ptr<LinearLayer> layer, Adapter adapter, bool round_to_bf16 = false)
      : layer_(std::move(layer)), adapter_(std::move(adapter)), round_to_bf16_(round_to_bf16) {}
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  [[nodiscard]] std::int64_t out_features() const override { return layer_->out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override {
    return layer_->weight_bytes() + adapter_.weight_bytes();
  }

 private:
  std::unique_ptr<LinearLayer> layer_;
  Adapter adapter_;
  bool round_to_bf16_;
};

/// Float arithmetic that remembers which input columns reached |x| >= threshold: how LLM.int8() is
/// calibrated. Refers to weights and bias of somebody else.
class KVANT_API ObservingLinear final : public LinearLayer {
 public:
  ObservingLinear(const WeightMatrix& weights, const std::vector<float>& bias, float threshold);
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  [[nodiscard]] std::int64_t out_features() const override { return weights_.rows(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return 0; }
  /// Ascending.
  [[nodiscard]] std::vector<std::int64_t> outlier_columns() const;

 private:
  const WeightMatrix& weights_;
  const std::vector<float>& bias_;
  float threshold_;
  mutable std::vector<bool> seen_;
};

/// y [M, N] = x [M, K] w^T + bias (if any), in fp32, a block of outputs per task.
KVANT_API void multiply_float(Context& context, MatrixView<const float> x, const WeightMatrix& w,
                              const std::vector<float>& bias, MatrixView<float> y);

/// Rounds every value to the nearest bf16.
KVANT_API void round_to_bfloat16(float* values, std::int64_t count) noexcept;

}  // namespace kvant::models
