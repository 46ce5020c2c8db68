#pragma once

// A linear layer of a QuantizedModel: floats, then floats computed as codes would be, then codes.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvant/core/distribution_observer.hpp"
#include "kvant/linear.hpp"
#include "kvant/models/quantized_model.hpp"

namespace kvant::models {

[[noreturn]] void refuse_quantized_model(const std::string& what);

/// A scale of activations that follows batches.
class MovingScale {
 public:
  /// A batch of zeros, or without rows, leaves it as it is.
  void measure(MatrixView<const float> x, ActivationCodes codes, float momentum);
  void set(float scale) { scale_ = scale; }
  void forget() { *this = {}; }
  /// NaN: not known.
  [[nodiscard]] float value() const { return scale_; }
  [[nodiscard]] bool known() const;

 private:
  std::optional<AbsmaxMomentumObserver> observer_;
  float scale_ = std::numeric_limits<float>::quiet_NaN();
};

struct QuantizedModel::Layer {
  /// @throws Error as QuantizedModel::add
  Layer(std::string its_name, MatrixView<const float> its_weights, std::span<const float> its_bias);

  std::string name;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::vector<float> weights;  ///< empty behind freeze()
  std::vector<float> bias;
  LayerQuantization quantization{.weights = std::nullopt};
  bool frozen = false;
  float momentum = -1;  ///< of the calibration that is going on; negative: none
  MovingScale input;
  MovingScale output;
  Linear linear;  ///< what is multiplied

  [[nodiscard]] MatrixView<const float> view() const { return {weights.data(), outputs, inputs}; }
  [[nodiscard]] bool has_codes() const { return quantization.weights.has_value(); }
  void become(const LayerQuantization& what);
  /// The codes of the weights, and the scale of the activations, as they are now. Integers are
  /// multiplied by integers; all else as the real values of both, as quanto does.
  void pack(Context& context);
  /// Behind pack(): floats go.
  void drop_floats() noexcept;
  /// As QuantizedModel::forward.
  void forward(Context& context, MatrixView<const float> x, MatrixView<float> y,
               std::optional<float> x_scale);
  [[nodiscard]] std::size_t footprint() const;
};

}  // namespace kvant::models
