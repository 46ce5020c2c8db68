#include "models/calibrate/method_encoder.hpp"

#include <limits>
#include <optional>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/methods/awq.hpp"

namespace kvant::models {

/// A layer's rows by the method, and what it costs on the calibrated text.
class MethodEncoder::Rows final : public io::RowEncoder {
 public:
  Rows(const MethodEncoder& encoder, std::string layer, std::int64_t inputs)
      : encoder_(encoder), layer_(std::move(layer)) {
    const MethodOptions& options = encoder.options_;
    const StatisticsFile* statistics = encoder.statistics_;
    if (statistics == nullptr || !statistics->has_moments()) return;
    gram_ = statistics->moments(layer_);
    if (gram_.features() != inputs) {
      throw Error(ErrorCode::invalid_file, "the statistics are of " +
                                               std::to_string(gram_.features()) +
                                               " inputs, the layer has " + std::to_string(inputs) +
                                               "; they are of another model");
    }
    if (gram_.rows() == 0) {
      throw Error(ErrorCode::invalid_file,
                  "no token of the calibration reached it; calibrate with more text, or keep it in "
                  "float (--skip)");
    }
    const auto scales = encoder.scales_.find(layer_);
    if (scales != encoder.scales_.end()) gram_ = gram_.divided_by(scales->second.scales);
    Context context = make_context();
    measure_.emplace(context, gram_);
    if (options.method == Method::gptq) {
      gptq_.emplace(gram_, encoder.gptq_options());
    }
    if (options.method != Method::awq) gram_ = {};  // what is needed of it is above
    const std::lock_guard lock(encoder.mutex_);
    Sums& sums = encoder.sums_[layer_];
    sums.measured = true;
    if (gptq_) sums.notes = gptq_->notes();
    if (scales != encoder.scales_.end()) sums.ratio = scales->second.ratio;
  }

  [[nodiscard]] io::EncodedRows encode(MatrixView<const float> rows) const override {
    Context context = make_context();
    methods::GroupCodes codes = choose(context, rows);
    note(context, rows, codes);
    return {std::move(codes.codes), std::move(codes.scales), std::move(codes.zero_points)};
  }

  [[nodiscard]] std::vector<std::int32_t> group_of() const override {
    return gptq_ ? gptq_->group_of() : std::vector<std::int32_t>();
  }

 private:
  [[nodiscard]] Context make_context() const {
    return Context({.executor = inline_executor(), .kernels = &encoder_.kernels_});
  }

  [[nodiscard]] methods::GroupCodes choose(Context& context, MatrixView<const float> rows) const {
    if (gptq_) return gptq_->quantize(context, rows);
    if (encoder_.options_.method == Method::awq) {
      return methods::clip_and_round(rows, gram_, encoder_.scheme());
    }
    return encoder_.nearest(rows);
  }

  void note(Context& context, MatrixView<const float> rows,
            const methods::GroupCodes& codes) const {
    if (!measure_) {
      const std::lock_guard lock(encoder_.mutex_);
      static_cast<void>(encoder_.sums_[layer_]);
      return;
    }
    std::vector<float> values(static_cast<std::size_t>(rows.rows() * rows.cols()));
    const MatrixView<float> view(values.data(), rows.rows(), rows.cols());
    const double power = measure_->sum(context, rows, {});
    codes.dequantize(view);
    const double chosen = measure_->sum(context, rows, view);
    methods::round_to_nearest(rows, encoder_.scheme()).dequantize(view);
    const double nearest = measure_->sum(context, rows, view);
    const std::lock_guard lock(encoder_.mutex_);
    Sums& sums = encoder_.sums_[layer_];
    sums.power += power;
    sums.chosen += chosen;
    sums.nearest += nearest;
  }

  const MethodEncoder& encoder_;
  std::string layer_;
  methods::GramMatrix gram_;
  std::optional<methods::OutputError> measure_;
  std::optional<methods::Gptq> gptq_;
};

std::unique_ptr<io::RowEncoder> MethodEncoder::open(const std::string& layer,
                                                    std::int64_t /*outputs*/,
                                                    std::int64_t inputs) const {
  return std::make_unique<Rows>(*this, layer, inputs);
}

methods::GptqOptions MethodEncoder::gptq_options() const {
  return {.scheme = scheme(),
          .act_order = options_.act_order,
          .static_groups = options_.static_groups,
          .search = options_.search,
          .damp = options_.damp};
}

methods::GroupCodes MethodEncoder::nearest(MatrixView<const float> rows) const {
  switch (options_.method) {
    case Method::mse: return methods::round_to_nearest(rows, scheme(), methods::RangeSearch::mse);
    case Method::hqq: return methods::round_to_nearest(rows, scheme(), methods::RangeSearch::hqq);
    default: return methods::round_to_nearest(rows, scheme());
  }
}

methods::GroupCodes MethodEncoder::choose(Context& context, const methods::GramMatrix& moments,
                                          MatrixView<const float> weights) const {
  if (options_.method != Method::gptq) return nearest(weights);
  return methods::Gptq(moments, gptq_options()).quantize(context, weights);
}

void MethodEncoder::set_scales(const std::string& layer, std::vector<float> scales, double ratio) {
  scales_[layer] = {std::move(scales), ratio};
}

std::vector<LayerOutcome> MethodEncoder::outcomes() const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::vector<LayerOutcome> result;
  for (const auto& [layer, sums] : sums_) {
    const bool known = sums.measured && sums.power > 0;
    result.push_back({layer, known ? sums.nearest / sums.power : kUnknown,
                      known ? sums.chosen / sums.power : kUnknown, sums.ratio, sums.notes});
  }
  return result;
}

}  // namespace kvant::models
