#include "models/calibrate/observed_block.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

ConstAnyMatrix bias_view(const std::vector<float>& bias) {
  if (bias.empty()) return {};
  return MatrixView<const float>(bias.data(), 1, static_cast<std::int64_t>(bias.size()));
}

class StatisticsLinear final : public LinearLayer {
 public:
  /// @param input null: another layer notes the same input
  StatisticsLinear(Linear layer, ObservedInput* input, float longest_row)
      : layer_(std::move(layer)), input_(input), longest_row_(longest_row) {}

  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override {
    if (input_ != nullptr) {
      try {
        input_->statistics.observe(context, x.x());
        if (input_->moments.features() > 0) observe_moments(context, x.x());
      } catch (const Error& error) {
        throw Error(error.code(), "layer \"" + input_->layers.front() + "\": " + error.what());
      }
    }
    x.forward(context, layer_, y);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_.out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_.weight_bytes(); }

 private:
  /// With rows no longer than they may be.
  void observe_moments(Context& context, MatrixView<const float> x) const {
    std::vector<double> lengths(static_cast<std::size_t>(x.rows()));
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        sum += static_cast<double>(x(r, c)) * static_cast<double>(x(r, c));
      }
      lengths[static_cast<std::size_t>(r)] = std::sqrt(sum);
    }
    std::vector<double> sorted = lengths;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const double longest = longest_row_ > 0 && *middle > 0
                               ? static_cast<double>(longest_row_) * *middle
                               : std::numeric_limits<double>::infinity();
    if (std::none_of(lengths.begin(), lengths.end(),
                     [&](double length) { return length > longest; })) {
      input_->moments.observe(context, x);
      return;
    }
    std::vector<float> rows(x.data(), x.data() + x.size());
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const double length = lengths[static_cast<std::size_t>(r)];
      if (length <= longest) continue;
      const auto factor = static_cast<float>(longest / length);
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        rows[static_cast<std::size_t>(r * x.cols() + c)] *= factor;
      }
    }
    input_->moments.observe(context, MatrixView<const float>(rows.data(), x.rows(), x.cols()));
  }

  Linear layer_;
  ObservedInput* input_;
  float longest_row_;
};

}  // namespace

std::unique_ptr<LinearLayer> ObservedInputs::observing(const std::string& name,
                                                       const FloatParameters& parameters,
                                                       const std::string* first) {
  ObservedInput* input = nullptr;
  if (first == nullptr) {
    inputs_.push_back(std::make_unique<ObservedInput>());
    input = inputs_.back().get();
    const std::int64_t features = parameters.weights.cols();
    input->statistics = methods::InputStatistics(features, options_.threshold);
    if (options_.moments) input->moments = methods::GramMatrix(features);
    input->layers.push_back(name);
  } else {
    for (const auto& known : inputs_) {
      if (known->layers.front() == *first) known->layers.push_back(name);
    }
  }
  return std::make_unique<StatisticsLinear>(
      Linear::quantize(context_, parameters.weights.view(), options_.forward,
                       bias_view(parameters.bias)),
      input, options_.longest_row);
}

std::vector<std::size_t> shared_inputs(const Block& block, const std::vector<LinearSpec>& specs) {
  std::vector<std::size_t> result(specs.size());
  const auto number = [&](const std::unique_ptr<LinearLayer>& slot) {
    const auto it = std::find_if(specs.begin(), specs.end(),
                                 [&](const LinearSpec& spec) { return spec.slot == &slot; });
    return static_cast<std::size_t>(it - specs.begin());
  };
  for (std::size_t i = 0; i < specs.size(); ++i) result[i] = i;
  const auto join = [&](const Projection& projection) {
    for (const auto& part : projection.parts) {
      result[number(part)] = number(projection.parts.front());
    }
  };
  join(block.qkv);
  join(block.cross.kv);
  for (const Mlp& mlp : block.mlps) join(mlp.up);
  return result;
}

}  // namespace kvant::models
