#pragma once

// The weights of the outlier features that were found in a call, gathered inside a GEMM: one panel
// at a time, where the caller did not make those of all panels before (kGatheredWeights).

#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

class FoundWeights {
 public:
  /// g's found features get the weights in here where they have none. (Neither may move.)
  explicit FoundWeights(GemmArgs& g) noexcept
      : gathers_(g.epilogue.outliers.found.count > 0 && g.epilogue.outliers.found.w == nullptr) {
    if (gathers_) g.epilogue.outliers.found = g.epilogue.outliers.found.with_panel(weights_);
  }

  /// Before a panel's epilogue: gather(weights) where those of another panel are in here.
  template <class Gather>
  void turn_to(std::int64_t panel, Gather&& gather) noexcept {
    if (!gathers_ || panel == panel_) return;
    panel_ = panel;
    gather(static_cast<float*>(weights_));
  }

 private:
  alignas(64) float weights_[kGatheredWeights];
  std::int64_t panel_ = -1;
  bool gathers_;
};

}  // namespace
}  // namespace kvant
