#pragma once

/// @file
/// Linear layers on a device inside a model that runs on the host: x goes there once for all layers
/// that read it, what they make comes back with one wait.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/models/linear_layer.hpp"
#include "kvant/parallel_linear.hpp"
#include "kvant/workspace.hpp"

namespace kvant::models {

/// A device's context, and the memory there that the layers of a model share: one x, and what a
/// group of layers makes of it. Belongs to one thread at a time, and with it the model.
class KVANT_API Device {
 public:
  /// @param kernels with a Memory (kernels_for("cuda")); must outlive the object
  /// @throws Error invalid_argument: kernels that work on the host's memory
  explicit Device(const KernelTable& kernels);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] Context& context() noexcept { return context_; }
  /// Takes the memory for x [rows, inputs] and for `outputs` columns of results; calls that need
  /// more take it then. @throws Error out_of_memory
  void reserve(std::int64_t rows, std::int64_t inputs, std::int64_t outputs);
  /// Bytes of the device that calls hold: x, results, quantized activations and scratch.
  [[nodiscard]] std::size_t call_bytes() const noexcept;

  /// Gives y = layer(x) to the queue; it is in y after finish(). x is copied, and quantized, once
  /// as long as no other input comes between; before another one, finish(): what waits is lost
  /// else.
  /// @param y on the host; must stay until finish()
  /// @param round_to_bf16 as of FloatLinear
  /// @throws Error as Linear::forward; out_of_memory, device_failed
  void start(LayerInput& x, const Linear& layer, MatrixView<float> y, bool round_to_bf16 = false);
  /// y = layer(x), whose part on this rank is on this device: what travels goes between the ranks'
  /// devices. All ranks call it. @throws Error as RowParallelLinear::forward; as start
  void forward(const RowParallelLinear& layer, LayerInput& x, MatrixView<float> y,
               bool round_to_bf16);
  /// Waits once, and copies what was started into its y. @throws Error device_failed
  void finish();

 private:
  /// A result on its way back.
  struct Result {
    std::size_t offset;  ///< in the block of results, floats
    MatrixView<float> y;
    bool round_to_bf16;
  };
  void upload(LayerInput& x);
  void copy(void* to, const void* from, std::int64_t floats, CopyKind kind);
  /// Room for this many floats of results in all; none may be on its way back.
  void make_room(std::size_t floats);
  /// Behind those on their way; there is room.
  AnyMatrix next_result(std::int64_t rows, std::int64_t outputs);

  Context context_;
  Workspace blocks_;  ///< block 0: x; block 1: results
  QuantizedActivations activations_;
  LayerInput input_;              ///< x as it is on the device
  std::uint64_t number_ = 0;      ///< of that x
  std::size_t results_room_ = 0;  ///< floats
  std::size_t results_used_ = 0;
  std::vector<Result> results_;
  std::vector<float> staging_;
};

/// kvant's layer, its weights on a device.
class KVANT_API DeviceLinear final : public LinearLayer {
 public:
  /// @param layer built with device->context()
  /// @param round_to_bf16 as of FloatLinear
  DeviceLinear(std::shared_ptr<Device> device, Linear layer, bool round_to_bf16 = false)
      : device_(std::move(device)), layer_(std::move(layer)), round_to_bf16_(round_to_bf16) {}
  [[nodiscard]] const Linear& linear() const noexcept { return layer_; }
  [[nodiscard]] const Device& device() const noexcept { return *device_; }
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  void start(Context& context, LayerInput& x, MatrixView<float> y) const override;
  /// The layer of all ranks that this one is part of. @throws Error as Device::forward
  void forward(const RowParallelLinear& whole, LayerInput& x, MatrixView<float> y) const {
    device_->forward(whole, x, y, round_to_bf16_);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_.out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_.weight_bytes(); }

 private:
  std::shared_ptr<Device> device_;
  Linear layer_;
  bool round_to_bf16_;
};

}  // namespace kvant::models
