#pragma once

/// @file
/// QuantizedModel: quantize a model of linear layers, calibrate it with a few batches, freeze it:
/// the flow of optimum-quanto, whose scales and results it reproduces.
///
///     kvant::models::QuantizedModel model;
///     const auto fc1 = model.add("fc1", w1, b1), fc2 = model.add("fc2", w2, b2);
///     model.quantize({.weights = kvant::WeightFormat::int8_row,
///                     .activations = kvant::models::ActivationCodes::int8});
///     {
///       const kvant::models::Calibration calibration(model);
///       for (const auto& batch : batches) run(batch);       // calls model.forward(fc1, ...)
///     }
///     model.freeze(context);                                // floats go, codes stay
///
/// The same with a language model of any family, which runs by itself (here one that continues
/// texts; others by encode(), read_source() and compute_logits()):
///
///     model.take_layers(context, llama);
///     model.quantize({.weights = kvant::WeightFormat::int4_group,
///                     .activations = kvant::models::ActivationCodes::fp8});
///     {
///       const kvant::models::Calibration calibration(model);
///       for (const auto& ids : texts) evaluate(context, llama, ids, 512);
///     }
///     model.freeze(context);

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::models {

struct Model;

/// What the inputs of a layer become.
enum class ActivationCodes : std::uint8_t {
  none,  ///< they stay floats
  int8,  ///< one scale for all, absmax / 127
  fp8,   ///< e4m3, one scale for all, absmax / 448
};

/// What becomes of a layer.
struct LayerQuantization {
  std::optional<WeightFormat> weights = WeightFormat::int8_row;  ///< nothing: floats
  ActivationCodes activations = ActivationCodes::none;
  bool quantize_outputs = false;  ///< outputs become codes of the same kind, by their own scale
};

/// Layers whose names match a pattern (glob.hpp).
struct LayerQuantizationRule {
  std::string pattern;
  LayerQuantization quantization;
};

/// Linear layers by name, in three states: as added (floats), quantized (floats, computed as their
/// codes would be: for training and calibration), frozen (codes alone).
/// The caller runs them in whatever order his model has.
class KVANT_API QuantizedModel {
 public:
  QuantizedModel();
  ~QuantizedModel();
  QuantizedModel(QuantizedModel&&) noexcept;
  QuantizedModel& operator=(QuantizedModel&&) noexcept;

  /// A layer y = x W^T + b; copies. @param weights [out, in], @param bias [out] or empty
  /// @return its number, for forward()
  /// @throws Error shape_mismatch, not_finite, invalid_argument (a name that is there; frozen, or
  ///         being calibrated)
  std::size_t add(std::string name, MatrixView<const float> weights,
                  std::span<const float> bias = {});

  /// The linear layers of a language model in float, by their names in it (those that schemes
  /// quantize; routers, tables and heads of the vocabulary stay): forward(), generate() and
  /// evaluate() of the model run them as they are here, so that a Calibration follows the texts
  /// that the model is given. Each call is a batch. What the texts do not reach (an expert of a
  /// mixture; the layer in front of BERT's head, where nobody asks for logits) is not calibrated:
  /// give it a rule without activations. Until freeze() the model belongs to one thread at a time,
  /// and each call makes the codes of every layer anew, which costs as much as quantizing them;
  /// freeze before this object goes. Afterwards the model may outlive it.
  /// @param model in fp32; on an error it is as it was
  /// @throws Error unsupported: a model in another scheme, on a device, shared by ranks, or with an
  ///         adapter; invalid_argument, not_finite as add()
  void take_layers(Context& context, Model& model);

  /// How many layers there are, and their names by number.
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
  [[nodiscard]] const std::string& name(std::size_t layer) const;

  /// Says what each layer becomes: `all`, or the last rule that matches its name. Scales of
  /// activations that were calibrated before are forgotten.
  /// @throws Error invalid_argument: a rule that matches no layer, a frozen model; unsupported: a
  ///         format that floats are not packed in (GGUF's blocks)
  void quantize(const LayerQuantization& all, const std::vector<LayerQuantizationRule>& rules = {});

  /// Floats go, codes stay; nothing can be changed behind it.
  /// @throws Error invalid_argument: not quantized, being calibrated; or activations that were
  ///         never calibrated, with the layer's name: any scale for them would be a guess.
  ///         not_finite: weights were trained to NaN or infinities. The layers stay as they were
  void freeze(Context& context);
  [[nodiscard]] bool frozen() const noexcept;

  /// y [M, out] = the layer of x [M, in]. While a Calibration lives the scales of its activations
  /// follow x and y.
  /// @param x_scale  x holds codes times this scale already (what a layer with quantize_outputs
  ///                 made, or a function like relu of it): it is taken, not measured
  /// @throws Error shape_mismatch, invalid_argument (no such layer; activations that are quantized
  ///         and not calibrated), not_finite (while calibrating)
  void forward(Context& context, std::size_t layer, MatrixView<const float> x, MatrixView<float> y,
               std::optional<float> x_scale = std::nullopt);

  /// The weights before freezing, for training: [out, in].
  /// @throws Error invalid_argument: frozen, or no such layer
  [[nodiscard]] MatrixView<float> weights(std::size_t layer);
  /// NaN: not calibrated.
  [[nodiscard]] float input_scale(std::size_t layer) const;
  [[nodiscard]] float output_scale(std::size_t layer) const;

  /// Bytes as quanto's state has them: floats, or codes, scales and the two scales of activations.
  [[nodiscard]] std::size_t footprint() const;

 private:
  friend class Calibration;
  struct Layer;
  class TakenLinear;
  [[nodiscard]] Layer& at(std::size_t layer) const;
  /// @throws Error invalid_argument
  void require_new(const std::string& name) const;
  std::vector<std::shared_ptr<Layer>> layers_;  ///< a language model may hold them too
  bool quantized_ = false;
  bool frozen_ = false;
  bool calibrating_ = false;
};

/// While it lives, forward() measures: the first batch that is not zero sets a scale, each later
/// one moves it to momentum * old + (1 - momentum) * new. The model must stay where it is. (quanto
/// gives `momentum` to outputs alone, inputs have 0.9.)
class KVANT_API Calibration {
 public:
  /// @throws Error invalid_argument: momentum outside [0, 1), a frozen model, one that is being
  ///         calibrated
  explicit Calibration(QuantizedModel& model, float momentum = 0.9f);
  ~Calibration();
  Calibration(const Calibration&) = delete;
  Calibration& operator=(const Calibration&) = delete;

 private:
  QuantizedModel& model_;
};

}  // namespace kvant::models
