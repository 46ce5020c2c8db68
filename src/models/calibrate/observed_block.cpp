#include "models/calibrate/observed_block.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

class StatisticsLinear final : public LinearLayer {
 public:
  /// @param input null: another layer notes the same input
  StatisticsLinear(std::unique_ptr<LinearLayer> layer, ObservedInput* input)
      : layer_(std::move(layer)), input_(input) {}

  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override {
    if (input_ != nullptr) {
      const MatrixView<const float> rows = x.x();
      input_->rows.insert(input_->rows.end(), rows.data(), rows.data() + rows.size());
    }
    layer_->forward(context, x, y);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_->out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_->weight_bytes(); }

 private:
  std::unique_ptr<LinearLayer> layer_;
  ObservedInput* input_;
};

/// Rows that are longer than `times` the median are shortened to that.
void shorten_rows(MatrixView<float> x, double times) {
  if (x.rows() == 0 || !(times > 0)) return;
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
  const double longest = times * *middle;
  if (!(longest > 0)) return;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    const double length = lengths[static_cast<std::size_t>(r)];
    if (length <= longest) continue;
    const auto factor = static_cast<float>(longest / length);
    for (std::int64_t c = 0; c < x.cols(); ++c) x(r, c) *= factor;
  }
}

}  // namespace

void ObservedInputs::observe_window(ObservedInput& input, MatrixView<const float> x) {
  if (x.rows() == 0) return;
  try {
    if (rank() == 0) input.statistics.observe(context_, x);
    if (input.moments.features() == 0) return;
    std::vector<float> rows(x.data(), x.data() + x.size());
    const MatrixView<float> shortened(rows.data(), x.rows(), x.cols());
    shorten_rows(shortened, static_cast<double>(options_.longest_row));
    input.moments.observe_part(context_, MatrixView<const float>(shortened), rank(), ranks());
  } catch (const Error& error) {
    throw Error(error.code(), "layer \"" + input.layers.front() + "\": " + error.what());
  }
}

void ObservedInputs::observe() {
  for (const auto& input : inputs_) {
    const std::int64_t features = input->statistics.features();
    const auto view = [&](const float* rows, std::int64_t values) {
      return MatrixView<const float>(rows, values / features, features);
    };
    const auto own = static_cast<std::int64_t>(input->rows.size());
    if (options_.ranks == nullptr) {
      observe_window(*input, view(input->rows.data(), own));
    } else {
      const auto count = static_cast<std::size_t>(ranks());
      std::vector<std::int64_t> sizes(count);
      const std::int64_t bytes = own * static_cast<std::int64_t>(sizeof(float));
      const std::vector<std::int64_t> one(count, sizeof(std::int64_t));
      options_.ranks->all_gather(std::as_bytes(std::span(&bytes, 1)), one,
                                 reinterpret_cast<std::byte*>(sizes.data()));
      const std::int64_t all = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
      std::vector<float> rows(static_cast<std::size_t>(all) / sizeof(float));
      options_.ranks->all_gather(std::as_bytes(std::span(input->rows)), sizes,
                                 reinterpret_cast<std::byte*>(rows.data()));
      const float* at = rows.data();
      for (const std::int64_t size : sizes) {
        const std::int64_t values = size / static_cast<std::int64_t>(sizeof(float));
        observe_window(*input, view(at, values));
        at += values;
      }
    }
    input->rows.clear();
  }
}

void ObservedInputs::complete() {
  for (const auto& input : inputs_) {
    methods::GramMatrix& moments = input->moments;
    if (moments.features() == 0) continue;
    if (options_.ranks == nullptr) {
      moments.complete();
      continue;
    }
    std::vector<std::int64_t> sizes;
    for (int part = 0; part < ranks(); ++part) {
      sizes.push_back(moments.size_of_part(part, ranks()) *
                      static_cast<std::int64_t>(sizeof(float)));
    }
    const std::int64_t all = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    std::vector<float> parts(rank() == 0 ? static_cast<std::size_t>(all) / sizeof(float) : 0);
    const std::vector<float> own = moments.sums_of_part(rank(), ranks());
    options_.ranks->gather(std::as_bytes(std::span(own)), sizes,
                           reinterpret_cast<std::byte*>(parts.data()));
    if (rank() != 0) continue;
    std::span<const float> left(parts);
    for (int part = 0; part < ranks(); ++part) {
      const auto count = static_cast<std::size_t>(moments.size_of_part(part, ranks()));
      moments.take_part(left.first(count), part, ranks());
      left = left.subspan(count);
    }
    moments.complete();
  }
}

std::unique_ptr<LinearLayer> ObservedInputs::observing(const std::string& name,
                                                       std::unique_ptr<LinearLayer> layer,
                                                       std::int64_t features,
                                                       const std::string* first) {
  ObservedInput* input = nullptr;
  if (first == nullptr) {
    inputs_.push_back(std::make_unique<ObservedInput>());
    input = inputs_.back().get();
    input->statistics = methods::InputStatistics(features, options_.threshold);
    if (options_.moments) input->moments = methods::GramMatrix(features);
    input->layers.push_back(name);
  } else {
    for (const auto& known : inputs_) {
      if (known->layers.front() == *first) known->layers.push_back(name);
    }
  }
  return std::make_unique<StatisticsLinear>(std::move(layer), input);
}

std::unique_ptr<LinearLayer> ObservedInputs::observing(const std::string& name,
                                                       const FloatParameters& parameters,
                                                       const std::string* first) {
  return observing(
      name, plain_layer(context_, parameters.weights.view(), parameters.bias, options_.forward),
      parameters.weights.cols(), first);
}

const methods::GramMatrix& ObservedInputs::moments_of(const std::string& layer) const {
  const auto reads = [&](const auto& input) {
    return std::find(input->layers.begin(), input->layers.end(), layer) != input->layers.end();
  };
  return (*std::find_if(inputs_.begin(), inputs_.end(), reads))->moments;
}

std::unique_ptr<LinearLayer> plain_layer(Context& context, ConstAnyMatrix weights,
                                         const std::vector<float>& bias, WeightFormat format) {
  return std::make_unique<QuantizedLinear>(
      Linear::quantize(context, weights, format, bias_view(bias)));
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
