#include "kvant/look/select.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/layers/layer_reader.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/error.hpp"
#include "kvant/error_metrics.hpp"
#include "look/choose.hpp"
#include "look/layer_tasks.hpp"

namespace kvant::look {
namespace {

template <class T>
void round_through(const std::vector<float>& from, std::vector<float>& to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(T(from[i]));
}

io::WeightScheme scheme_as_stored(const io::StoredLayer& layer) {
  switch (layer.dtype) {
    case DType::float16: return io::WeightScheme::fp16;
    case DType::bfloat16: return io::WeightScheme::bf16;
    default: return io::WeightScheme::fp32;
  }
}

/// A layer's squared errors in the forms that are smaller than the stored one, block by block.
class Trial {
 public:
  Trial(const io::Checkpoint& model, const io::StoredLayer& layer)
      : layer_(layer), reader_(model, layer) {}

  void run() {
    const std::int64_t block = std::min(io::rows_per_block(layer_), layer_.outputs);
    for (std::int64_t row = 0; row < layer_.outputs; row += block) {
      const std::int64_t count = std::min(block, layer_.outputs - row);
      weights_.resize(static_cast<std::size_t>(count * layer_.inputs));
      rounded_.resize(weights_.size());
      reader_.read(row, count, weights_.data());
      try_int8(count);
      if (layer_.dtype == DType::float32) {
        round_through<float16>(weights_, rounded_);
        add(fp16_);
        round_through<bfloat16>(weights_, rounded_);
        add(bf16_);
      }
    }
  }

  [[nodiscard]] LayerPlan plan(io::WeightScheme int8) const {
    LayerPlan result;
    result.layer = layer_;
    result.signal = int8_.signal();
    const auto elements = static_cast<std::uint64_t>(layer_.elements());
    constexpr std::uint64_t kScaleBytes = 4;  // SCB, and one byte of weight_format
    std::vector<SchemeChoice> all = {
        {int8, elements + kScaleBytes * static_cast<std::uint64_t>(layer_.outputs) + 1,
         int8_.squared_error()},
        {scheme_as_stored(layer_), layer_.bytes, 0.0}};
    if (layer_.dtype == DType::float32) {
      all.push_back({io::WeightScheme::fp16, elements * 2, fp16_.squared_error()});
      all.push_back({io::WeightScheme::bf16, elements * 2, bf16_.squared_error()});
    }
    result.choices = undominated(std::move(all));
    return result;
  }

 private:
  void add(ErrorAccumulator& error) const {
    const auto size = static_cast<std::int64_t>(weights_.size());
    error.add(MatrixView<const float>(weights_.data(), 1, size),
              MatrixView<const float>(rounded_.data(), 1, size));
  }

  void try_int8(std::int64_t rows) {
    const auto quantized = kvant::bitsandbytes::vectorwise_quant(
        MatrixView<const float>(weights_.data(), rows, layer_.inputs));
    kvant::bitsandbytes::vectorwise_dequant(
        MatrixView<const std::int8_t>(quantized.codes.data(), rows, layer_.inputs),
        quantized.row_stats, MatrixView<float>(rounded_.data(), rows, layer_.inputs));
    add(int8_);
  }

  const io::StoredLayer& layer_;
  io::LayerReader reader_;
  std::vector<float> weights_;
  std::vector<float> rounded_;
  ErrorAccumulator int8_;
  ErrorAccumulator fp16_;
  ErrorAccumulator bf16_;
};

void add_totals(SchemePlan& plan) {
  double signal = 0;
  double error = 0;
  plan.bytes_after = plan.bytes_before;
  plan.lowest_sqnr_db = std::numeric_limits<double>::infinity();
  for (const LayerPlan& layer : plan.layers) {
    signal += layer.signal;
    error += layer.choice().squared_error;
    plan.bytes_after = plan.bytes_after - layer.layer.bytes + layer.choice().bytes;
    plan.lowest_sqnr_db = std::min(plan.lowest_sqnr_db, layer.sqnr_db());
  }
  plan.total_sqnr_db = sqnr_of(signal, error);
}

}  // namespace

double LayerPlan::sqnr_db() const {
  return sqnr_of(signal, choice().squared_error);
}

SchemePlan select_schemes(const std::filesystem::path& model, const Budget& budget,
                          const SelectOptions& options) {
  if (options.int8 != io::WeightScheme::int8 && options.int8 != io::WeightScheme::llm_int8) {
    throw Error(ErrorCode::invalid_argument, "select_schemes: the 8-bit scheme is " +
                                                 std::string(to_string(options.int8)) +
                                                 "; llm-int8 and int8 are possible");
  }
  const io::Checkpoint checkpoint(model, {.allow_missing = true});
  SchemePlan plan;
  plan.model = model.string();
  plan.budget = budget;
  plan.int8 = options.int8;
  for (const io::TensorInfo* info : checkpoint.tensors()) plan.bytes_before += info->bytes;
  std::vector<io::StoredLayer> layers =
      io::find_linear_layers(checkpoint, io::model_hints_of(model));
  for (const io::StoredLayer& layer : layers) {
    const bool half = layer.dtype == DType::float16 || layer.dtype == DType::bfloat16;
    if (layer.form != io::StoredForm::floating || (!half && layer.dtype != DType::float32)) {
      throw Error(ErrorCode::unsupported, plan.model + ": layer \"" + layer.name +
                                              "\" is stored as " + std::string(layer.scheme()) +
                                              "; schemes are selected from fp32, fp16 or bf16 "
                                              "weights (kvant dequantize makes such a model)");
    }
  }
  std::erase_if(layers, [](const io::StoredLayer& layer) { return layer.kept; });
  if (layers.empty()) {
    throw Error(ErrorCode::unsupported, plan.model + ": has no linear layers to choose for");
  }
  plan.layers.resize(layers.size());
  std::uint64_t done_bytes = 0;
  std::uint64_t all_bytes = 0;
  for (const io::StoredLayer& layer : layers) all_bytes += layer.bytes;
  for_each_layer(
      layers.size(), options.threads,
      [&](std::size_t i) {
        Trial trial(checkpoint, layers[i]);
        trial.run();
        plan.layers[i] = trial.plan(options.int8);
        checkpoint.release(layers[i].name + ".weight");
      },
      [&](std::size_t i) {
        done_bytes += layers[i].bytes;
        if (options.progress) options.progress(done_bytes, all_bytes, layers[i].name);
      });
  choose(plan);
  add_totals(plan);
  return plan;
}

}  // namespace kvant::look
