#pragma once

// LayerPlacer: which linear layers go to a device, while a model is loaded.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "kvant/activations.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/device_linear.hpp"
#include "kvant/models/offload.hpp"
#include "kvant/ranks.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::models {

/// What is known of a layer before it is made.
struct LayerNeeds {
  WeightFormat format = WeightFormat::float32;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t block = 0;  ///< weights that share a scale; 0: the format's own
  bool bias = false;
  std::int64_t kept_columns = 0;
  Arithmetic arithmetic = Arithmetic::kvant;

  /// Bytes that it will hold in a device's memory, near enough: kernels may lay codes of 4 bits
  /// with more or less around them. 0: they do not multiply it.
  [[nodiscard]] std::uint64_t bytes_on(const KernelTable& kernels) const;
};

/// Bytes that calls of `rows` rows will hold on a device: x, results, codes, scratch.
/// @param between_devices  ranks exchange there what they hold
[[nodiscard]] std::uint64_t estimated_call_bytes(const Config& config, std::int64_t rows,
                                                 bool between_devices);

class LayerPlacer {
 public:
  using Make = std::function<Linear(Context&)>;
  using MakeOnHost = std::function<std::unique_ptr<LinearLayer>()>;

  /// Asks the device for its free memory. @throws Error as Device
  /// @param ranks  that share the model; null: none do
  LayerPlacer(const Config& config, const Offload& offload, const Ranks* ranks);

  /// There is a device, and layers may go there.
  [[nodiscard]] bool is_active() const noexcept { return placement_ != nullptr; }

  /// The layer on the device if it is to go there, there is room, and the device multiplies it;
  /// else on the host.
  /// @param make  for the context that it is given
  /// @param round_to_bf16  as of DeviceLinear
  [[nodiscard]] std::unique_ptr<LinearLayer> place(const std::string& name, const LayerNeeds& needs,
                                                   const Make& make, const MakeOnHost& on_host,
                                                   bool round_to_bf16 = false);
  /// A layer that is on the host whatever is asked for.
  [[nodiscard]] std::unique_ptr<LinearLayer> stay(const std::string& name,
                                                  std::unique_ptr<LinearLayer> layer,
                                                  const std::string& reason);

  /// Null: there is no device.
  [[nodiscard]] std::shared_ptr<const Placement> placement() const noexcept { return placement_; }

 private:
  /// Why it stays on the host, as far as that can be told before it is made; empty: it does not.
  [[nodiscard]] std::string reason_to_stay(const std::string& name, const LayerNeeds& needs,
                                           std::uint64_t bytes) const;
  [[nodiscard]] std::unique_ptr<LinearLayer> try_device(const LayerNeeds& needs, const Make& make,
                                                        bool round_to_bf16, LayerPlace& place);

  const Offload& offload_;
  std::shared_ptr<Device> device_;
  std::shared_ptr<Placement> placement_;
  std::uint64_t used_ = 0;  ///< by layers
  /// What the device does not multiply, and its words for it.
  std::map<std::pair<WeightFormat, Arithmetic>, std::string> refused_;
};

}  // namespace kvant::models
