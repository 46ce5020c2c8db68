#include "kvant/look/select.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/checkpoint/foreign_formats.hpp"
#include "io/layers/stored_format.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/io/layer_reader.hpp"
#include "look/choose.hpp"
#include "look/layer_tasks.hpp"

namespace kvant::look {
namespace {

template <class T>
void round_through(const std::vector<float>& from, std::vector<float>& to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(T(from[i]));
}

/// A layer's squared errors in the forms that are smaller than the stored one, block by block.
class Trial {
 public:
  Trial(const io::Checkpoint& model, const io::StoredLayer& layer, const io::StoredFormat& form,
        WeightFormat format)
      : layer_(layer),
        form_(form),
        new_{.name = layer.name,
             .outputs = static_cast<std::uint64_t>(layer.outputs),
             .inputs = static_cast<std::uint64_t>(layer.inputs),
             .format = format,
             .dtype = layer.dtype},
        reader_(model, layer) {}

  void run() {
    form_.check_new(new_);
    const auto together = static_cast<std::int64_t>(form_.rows_together(new_));
    block_ = (io::rows_per_block(layer_) + together - 1) / together * together;
    collect();
    for (std::int64_t row = 0; row < layer_.outputs; row += block_) {
      const std::int64_t count = read(row);
      try_quantized(row, count);
      if (layer_.dtype == DType::float32) {
        round_through<float16>(weights_, rounded_);
        add(fp16_);
        round_through<bfloat16>(weights_, rounded_);
        add(bf16_);
      }
    }
  }

  /// @param scheme of the quantized choice
  [[nodiscard]] LayerPlan plan(io::WeightScheme scheme) const {
    LayerPlan result;
    result.layer = layer_;
    result.signal = quantized_.signal();
    const std::uint64_t elements = new_.outputs * new_.inputs;
    std::vector<SchemeChoice> all = {
        {scheme, io::stored_bytes(form_, new_), quantized_.squared_error()},
        {*layer_.format, layer_.bytes, 0.0}};
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

  std::int64_t read(std::int64_t row) {
    const std::int64_t count = std::min(block_, layer_.outputs - row);
    weights_.resize(static_cast<std::size_t>(count * layer_.inputs));
    rounded_.resize(weights_.size());
    reader_.read(row, count, weights_.data());
    return count;
  }

  /// A pass over the weights in forms whose rows depend on each other.
  void collect() {
    settled_.resize(static_cast<std::size_t>(form_.collects(new_)));
    if (settled_.empty()) return;
    const io::TensorSink nowhere = [](std::string_view, std::uint64_t, std::span<const std::byte>) {
    };
    try {
      for (std::int64_t row = 0; row < layer_.outputs; row += block_) {
        const std::int64_t count = read(row);
        form_.write_rows(default_context().kernels(), new_, row,
                         {weights_.data(), DType::float32, count, layer_.inputs, layer_.inputs},
                         settled_, nowhere);
      }
      form_.settle(new_, settled_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_finite) throw;
      std::fill(settled_.begin(), settled_.end(), std::numeric_limits<float>::quiet_NaN());
    }
  }

  void try_quantized(std::int64_t row, std::int64_t rows) {
    form_.round_trip(default_context().kernels(), new_, row,
                     MatrixView<const float>(weights_.data(), rows, layer_.inputs), settled_,
                     MatrixView<float>(rounded_.data(), rows, layer_.inputs));
    add(quantized_);
  }

  const io::StoredLayer& layer_;
  const io::StoredFormat& form_;
  io::NewLayer new_;
  io::LayerReader reader_;
  std::int64_t block_ = 1;      ///< rows that are tried at once
  std::vector<float> settled_;  ///< what rows need to know of others
  std::vector<float> weights_;
  std::vector<float> rounded_;
  ErrorAccumulator quantized_;
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
  const io::StoredFormat* form =
      options.quantized.format ? io::form_writing(*options.quantized.format) : nullptr;
  if (form == nullptr) {
    throw Error(ErrorCode::invalid_argument, "select_schemes: the quantized scheme is " +
                                                 std::string(to_string(options.quantized)) +
                                                 ", in which no weight is quantized");
  }
  const io::Checkpoint checkpoint(model, {.allow_missing = true});
  SchemePlan plan;
  plan.model = model.string();
  plan.budget = budget;
  plan.quantized = options.quantized;
  for (const io::TensorInfo* info : checkpoint.tensors()) plan.bytes_before += info->bytes;
  const io::ModelHints hints = io::model_hints_of(model);
  if (!hints.problem.empty()) throw Error(ErrorCode::invalid_file, hints.problem);
  if (const auto method = io::foreign_quantization(hints, checkpoint.tensors())) {
    throw Error(ErrorCode::unsupported, plan.model + ": is quantized already, by " + *method);
  }
  std::vector<io::StoredLayer> layers = io::find_linear_layers(checkpoint, hints);
  for (const io::StoredLayer& layer : layers) {
    if (!layer.format || layer.quantized()) {
      throw Error(ErrorCode::unsupported, plan.model + ": layer \"" + layer.name +
                                              "\" is stored as " + std::string(layer.scheme()) +
                                              "; schemes are selected from fp32, fp16 or bf16 "
                                              "weights (kvant dequantize makes such a model)");
    }
  }
  std::erase_if(layers, [](const io::StoredLayer& layer) { return layer.stays_float; });
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
        Trial trial(checkpoint, layers[i], *form, *options.quantized.format);
        trial.run();
        plan.layers[i] = trial.plan(options.quantized);
        checkpoint.release(layers[i].tensor);
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
