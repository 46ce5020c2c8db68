#include "models/load/adapter_layers.hpp"

#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/models/adapter.hpp"

namespace kvant::models {

AdapterLayers::AdapterLayers(Context& context, const LoadOptions& options)
    : round_to_bf16_(options.plan.scheme == Scheme::bf16), folder_(options.adapter.string()) {
  if (options.adapter.empty()) return;
  if (options.ranks != nullptr && options.ranks->size() > 1) {
    throw Error(ErrorCode::unsupported,
                folder_ +
                    ": an adapter is not run by several ranks; merge it into the model first "
                    "(kvant merge)");
  }
  AdapterWeights weights = load_adapter(options.adapter);
  for (auto& [module, change] : weights.layers) {
    layers_.emplace(module, Adapter(context, MatrixView<const float>(change.a),
                                    MatrixView<const float>(change.b), change.scale));
  }
}

std::unique_ptr<LinearLayer> AdapterLayers::beside(const LayerName& name, const LinearSpec& spec,
                                                   std::unique_ptr<LinearLayer> layer) {
  // Adapters of base models, like their files, have names without the prefix.
  auto it = layers_.find(name.full);
  for (const std::string& other : {name.file, name.bare}) {
    if (it == layers_.end()) it = layers_.find(other);
  }
  if (it == layers_.end()) return layer;
  const Adapter& adapter = it->second;
  if (adapter.in_features() != spec.inputs || adapter.out_features() != spec.outputs) {
    throw Error(ErrorCode::shape_mismatch,
                folder_ + ": module " + io::in_quotes(it->first) + " is of a layer with " +
                    std::to_string(adapter.in_features()) + " inputs and " +
                    std::to_string(adapter.out_features()) + " outputs; the model's has " +
                    std::to_string(spec.inputs) + " and " + std::to_string(spec.outputs));
  }
  used_.insert(it->first);
  return std::make_unique<AdaptedLinear>(std::move(layer), adapter, round_to_bf16_);
}

void AdapterLayers::check_all_used() const {
  for (const auto& [module, adapter] : layers_) {
    if (used_.contains(module)) continue;
    throw Error(ErrorCode::shape_mismatch,
                folder_ + ": module " + io::in_quotes(module) +
                    " is no linear layer of the model's blocks: the adapter is another model's, or "
                    "of a part (embeddings, the head) that adapters are not run beside");
  }
}

}  // namespace kvant::models
