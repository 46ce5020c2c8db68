#include "kvant/models/gathered_linear.hpp"

#include <numeric>
#include <utility>

#include "kvant/matrix.hpp"
#include "kvant/models/device_linear.hpp"

namespace kvant::models {
namespace {

std::int64_t sum_of(const std::vector<std::int64_t>& widths) {
  return std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
}

}  // namespace

GatheredLinear::GatheredLinear(Ranks& ranks, std::unique_ptr<LinearLayer> own,
                               std::vector<std::int64_t> input_widths,
                               std::vector<std::int64_t> output_widths)
    : ranks_(ranks),
      own_(std::move(own)),
      input_widths_(std::move(input_widths)),
      output_widths_(std::move(output_widths)),
      inputs_(sum_of(input_widths_)),
      outputs_(sum_of(output_widths_)) {
  const auto* on_host = dynamic_cast<const QuantizedLinear*>(own_.get());
  const auto* on_device = dynamic_cast<const DeviceLinear*>(own_.get());
  // Ranks whose devices had room for different layers go the way that all can.
  enum : std::uint32_t { kNotOnHost = 1, kNotOnDevice = 2 };
  std::uint32_t found =
      (on_host == nullptr ? kNotOnHost : 0u) | (on_device == nullptr ? kNotOnDevice : 0u);
  ranks.all_or({&found, 1});
  if ((found & kNotOnHost) == 0) {
    shared_.emplace(ranks, on_host->linear(), input_widths_, outputs_);
  } else if ((found & kNotOnDevice) == 0 && ranks.devices_connected()) {
    shared_.emplace(ranks, on_device->linear(), input_widths_, outputs_);
    on_device_ = on_device;
  }
}

void GatheredLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  if (on_device_ != nullptr) {
    on_device_->forward(*shared_, x, y);
    return;
  }
  if (shared_) {
    shared_->forward(context, x.x(), y);
    return;
  }
  Matrix<float> whole(x.x().rows(), inputs_);
  ranks_.gather_columns(x.x(), input_widths_, whole);
  Matrix<float> own(y.rows(), own_->out_features());
  LayerInput input{MatrixView<const float>(whole)};
  own_->forward(context, input, own);
  ranks_.gather_columns(own, output_widths_, y);
}

}  // namespace kvant::models
