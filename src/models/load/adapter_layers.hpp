#pragma once

// AdapterLayers: an adapter's layers on their way to the layers of a model.

#include <map>
#include <memory>
#include <set>
#include <string>

#include "kvant/adapter.hpp"
#include "kvant/models/load.hpp"
#include "models/load/layer_maker.hpp"

namespace kvant::models {

class AdapterLayers {
 public:
  /// Of options.adapter, if there is one. @throws Error as load_adapter
  AdapterLayers(Context& context, const LoadOptions& options);

  /// The layer, with its part of the adapter beside it if there is one.
  /// @throws Error shape_mismatch
  [[nodiscard]] std::unique_ptr<LinearLayer> beside(const LayerName& name, const LinearSpec& spec,
                                                    std::unique_ptr<LinearLayer> layer);
  /// @throws Error shape_mismatch: the adapter has a layer that the model does not have
  void check_all_used() const;

 private:
  bool round_to_bf16_;
  std::string folder_;
  std::map<std::string, Adapter> layers_;  // by module
  std::set<std::string> used_;
};

}  // namespace kvant::models
