#include "kvant/models/gathered_linear.hpp"

#include <numeric>
#include <utility>

#include "kvant/matrix.hpp"

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
  if (const auto* layer = dynamic_cast<const QuantizedLinear*>(own_.get())) {
    quantized_.emplace(ranks, layer->linear(), input_widths_, outputs_);
  }
}

void GatheredLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  if (quantized_) {
    quantized_->forward(context, x.x(), y);
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
