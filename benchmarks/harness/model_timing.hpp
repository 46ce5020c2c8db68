#pragma once

// How long whole models take, and how much of it their linear layers.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kvant/models/model.hpp"

namespace kvant::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Adds up the time that a layer takes.
class TimedLinear final : public models::LinearLayer {
 public:
  TimedLinear(std::unique_ptr<LinearLayer> layer, double& seconds)
      : layer_(std::move(layer)), seconds_(seconds) {}
  void forward(Context& context, models::LayerInput& x, MatrixView<float> y) const override {
    const auto start = Clock::now();
    layer_->forward(context, x, y);
    seconds_ += seconds_since(start);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_->out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_->weight_bytes(); }

 private:
  std::unique_ptr<LinearLayer> layer_;
  double& seconds_;
};

/// From now on the linear layers of the blocks add their time to `seconds`, which must outlive the
/// model.
inline void time_linears(models::Model& model, double& seconds) {
  for (models::Block& block : model.blocks) {
    const auto time = [&](std::unique_ptr<models::LinearLayer>& layer) {
      layer = std::make_unique<TimedLinear>(std::move(layer), seconds);
    };
    for (auto& layer : block.qkv.parts) time(layer);
    time(block.attention_output);
    for (models::Mlp& mlp : block.mlps) {
      for (auto& layer : mlp.up.parts) time(layer);
      time(mlp.down);
    }
  }
}

/// Some ids of the vocabulary, far apart.
inline std::vector<models::TokenId> some_ids(std::int64_t count, std::int64_t vocabulary) {
  std::vector<models::TokenId> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<models::TokenId>(i * 7919 % vocabulary));
  }
  return ids;
}

}  // namespace kvant::bench
