#include "models/load/layer_maker.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/matrix.hpp"
#include "models/load/packed_rows.hpp"
#include "models/mix/pack_layer.hpp"

namespace kvant::models {
namespace {

/// A row of floats.
void convert_row(Context& context, const ConstAnyMatrix& m, std::int64_t row, float* to) {
  const std::int64_t size = describe(m.dtype).bits / 8;
  context.kernels().convert({static_cast<const std::byte*>(m.data) + row * m.stride * size, m.dtype,
                             to, DType::float32, m.cols});
}

/// Some columns of weights as floats, [outputs, columns].
Matrix<float> columns_of(Context& context, const ConstAnyMatrix& weights,
                         const std::vector<std::int64_t>& columns) {
  Matrix<float> result(columns.empty() ? 0 : weights.rows, std::ssize(columns));
  std::vector<float> row(static_cast<std::size_t>(weights.cols));
  for (std::int64_t r = 0; r < result.rows(); ++r) {
    convert_row(context, weights, r, row.data());
    for (std::int64_t j = 0; j < result.cols(); ++j) {
      result(r, j) = row[static_cast<std::size_t>(columns[static_cast<std::size_t>(j)])];
    }
  }
  return result;
}

/// Some outputs of a stored layer, side by side.
struct Int8Rows {
  Int8Rows(const io::Int8Layer& stored, const std::vector<Share>& rows) {
    std::int64_t outputs = 0;
    for (const Share& part : rows) outputs += part.size();
    codes = Matrix<std::int8_t>(outputs, stored.codes.cols());
    const auto columns = static_cast<std::size_t>(stored.codes.cols());
    const ConstAnyMatrix& kept = stored.kept_weights;
    const std::size_t element = kept.rows == 0 ? 0 : sizeof(std::uint16_t);
    dtype = kept.dtype;
    kept_columns = kept.cols;
    std::int8_t* to = codes.data();
    for (const Share& part : rows) {
      for (std::int64_t r = part.begin; r < part.end; ++r, to += columns) {
        std::memcpy(to, stored.codes.row_data(r), columns);
        absmax.push_back(stored.absmax[static_cast<std::size_t>(r)]);
        if (element == 0) continue;
        const auto* from = static_cast<const std::uint16_t*>(kept.data) + r * kept.stride;
        kept_bits.insert(kept_bits.end(), from, from + kept.cols);
      }
    }
  }
  [[nodiscard]] ConstAnyMatrix kept_weights() const {
    return {kept_bits.data(), dtype, codes.rows(), kept_columns, kept_columns};
  }

  Matrix<std::int8_t> codes;
  std::vector<float> absmax;
  std::vector<std::uint16_t> kept_bits;
  DType dtype = DType::float16;
  std::int64_t kept_columns = 0;
};

}  // namespace

ConstAnyMatrix bias_view(const std::vector<float>& bias) {
  if (bias.empty()) return {};
  return MatrixView<const float>(bias.data(), 1, static_cast<std::int64_t>(bias.size()));
}

LayerMaker::LayerMaker(Context& context, const Config& config, const LoadOptions& options,
                       const WeightSource& source)
    : context_(context),
      options_(options),
      source_(source),
      placer_(std::make_unique<LayerPlacer>(config, options.offload, options.ranks)) {
  if (plan().outliers) {
    outliers_ = *plan().outliers;
  } else if (plan().stored_int8 && plan().mode == Arithmetic::kvant) {
    outliers_ = io::stored_outliers(*source.checkpoint());
  }
}

bool LayerMaker::skipped(const LayerName& layer) const {
  return std::any_of(options_.skip.begin(), options_.skip.end(), [&](const std::string& pattern) {
    return io::glob_match(pattern, layer.full);
  });
}

std::unique_ptr<LinearLayer> LayerMaker::stay_float(const LayerName& layer,
                                                    FloatParameters parameters) const {
  // The device would sum in another order: what integers keep, floats beside them must not lose.
  return placer_->stay(layer.full,
                       std::make_unique<FloatLinear>(std::move(parameters.weights),
                                                     std::move(parameters.bias), bf16()),
                       "in float");
}

std::unique_ptr<LinearLayer> LayerMaker::place(const LayerName& layer, const LayerNeeds& needs,
                                               const LayerPlacer::Make& make) const {
  return placer_->place(layer.full, needs, make, [&]() -> std::unique_ptr<LinearLayer> {
    return std::make_unique<QuantizedLinear>(make(context_));
  });
}

std::unique_ptr<LinearLayer> LayerMaker::place_float(const LayerName& layer,
                                                     FloatParameters parameters) const {
  const WeightFormat format = bf16() ? WeightFormat::bfloat16 : WeightFormat::float32;
  const ConstAnyMatrix weights = parameters.weights.view();
  return placer_->place(
      layer.full,
      {.format = format,
       .outputs = weights.rows,
       .inputs = weights.cols,
       .bias = !parameters.bias.empty()},
      [&](Context& at) {
        return Linear::quantize(at, weights, format, bias_view(parameters.bias));
      },
      [&]() -> std::unique_ptr<LinearLayer> {
        return std::make_unique<FloatLinear>(std::move(parameters.weights),
                                             std::move(parameters.bias), bf16());
      },
      bf16());
}

const LayerFormat* LayerMaker::own_format(const LayerName& layer) const {
  for (const std::string* name : {&layer.file, &layer.full}) {
    const auto it = options_.formats.find(*name);
    if (it != options_.formats.end()) return &it->second;
  }
  return nullptr;
}

std::optional<LayerFormat> LayerMaker::format_of(const LayerName& layer) const {
  if (const LayerFormat* own = own_format(layer)) return *own;
  if (plan().scheme.kind != Scheme::Kind::packed) return std::nullopt;
  return LayerFormat{plan().scheme.format, plan().group};
}

bool LayerMaker::stays(const LayerName& layer) const {
  if (const LayerFormat* own = own_format(layer); own != nullptr && !skipped(layer)) {
    return own->format == WeightFormat::float32;
  }
  // What a quantized folder holds in float is meant to stay so.
  return plan().scheme == Scheme::fp32 || plan().scheme == Scheme::stored || bf16() ||
         plan().stored_int8 || skipped(layer);
}

std::vector<Share> LayerMaker::rows_to_read(const LayerName& layer, const LinearSpec& spec) const {
  const std::optional<LayerFormat> format = format_of(layer);
  if (spec.stays_float || stays(layer) || !format) return spec.rows;
  const std::int64_t together = outputs_sharing_scales(format->format, spec.inputs, format->group);
  std::vector<Share> rows = spec.rows;
  for (Share& part : rows) {
    part.begin = part.begin / together * together;
    part.end = std::min(spec.outputs, (part.end + together - 1) / together * together);
  }
  return rows;
}

PackedWeights LayerMaker::pack(Context& at, ConstAnyMatrix weights, LayerFormat format,
                               const std::vector<Share>& read,
                               const std::vector<Share>& rows) const {
  const Arithmetic arithmetic = activations().arithmetic;
  if (read == rows) {
    return pack_layer(at, weights, format, arithmetic);
  }
  std::vector<PackedWeights> parts;
  std::vector<Share> wanted;
  const std::int64_t row_bytes = weights.stride * (describe(weights.dtype).bits / 8);
  const auto* from = static_cast<const std::byte*>(weights.data);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const ConstAnyMatrix part{from, weights.dtype, read[i].size(), weights.cols, weights.stride};
    parts.push_back(pack_layer(context_, part, format, arithmetic));  // on the host: taken apart
    wanted.push_back({rows[i].begin - read[i].begin, rows[i].end - read[i].begin});
    from += read[i].size() * row_bytes;
  }
  return join_rows(at, parts, wanted);
}

std::unique_ptr<LinearLayer> LayerMaker::quantize(
    const LayerName& layer, const LinearSpec& spec, FloatParameters parameters,
    const std::vector<std::int64_t>& keep_columns) const {
  const bool all_float = plan().scheme == Scheme::fp32 || bf16();
  if (all_float && options_.formats.empty()) return place_float(layer, std::move(parameters));
  if (stays(layer)) return stay_float(layer, std::move(parameters));
  const ConstAnyMatrix weights = parameters.weights.view();
  const ConstAnyMatrix bias = bias_view(parameters.bias);
  LayerNeeds needs{.outputs = weights.rows, .inputs = weights.cols, .bias = bias.rows > 0};
  if (const auto format = format_of(layer)) {
    needs.format = format->format;
    needs.block = format->group;
    needs.arithmetic = activations().arithmetic;
    needs.kept_columns = static_cast<std::int64_t>(keep_columns.size());
    ActivationOptions options = activations();
    options.keep_columns = keep_columns;
    return place(layer, needs, [&](Context& at) {
      const Matrix<float> kept = columns_of(context_, weights, keep_columns);
      return Linear::from(pack(at, weights, *format, rows_to_read(layer, spec), spec.rows), bias,
                          options, kept.view());
    });
  }
  if (plan().scheme == Scheme::int8_tensor) return quantize_by_tensor(layer, weights, bias);
  Int8Options options;
  options.threshold = plan().threshold;
  options.arithmetic = plan().mode;
  options.outliers = outliers_;
  options.keep_columns = keep_columns;
  needs.format = WeightFormat::int8_row;
  needs.arithmetic = plan().mode;
  needs.kept_columns = static_cast<std::int64_t>(keep_columns.size());
  return place(layer, needs, [&](Context& at) -> Linear {
    return Int8Linear::quantize(at, weights, bias, options);
  });
}

std::unique_ptr<LinearLayer> LayerMaker::quantize_by_tensor(const LayerName& layer,
                                                            ConstAnyMatrix weights,
                                                            ConstAnyMatrix bias) const {
  QuantParams params = choose_params(context_, weights, int8_symmetric);
  if (options_.ranks != nullptr) {
    float absmax = 0;
    std::vector<float> row(static_cast<std::size_t>(weights.cols));
    for (std::int64_t r = 0; r < weights.rows; ++r) {
      convert_row(context_, weights, r, row.data());
      for (const float value : row) absmax = std::max(absmax, std::fabs(value));
    }
    options_.ranks->all_max({&absmax, 1});
    params = choose_params(context_, MatrixView<const float>(&absmax, 1, 1), int8_symmetric);
  }
  const QuantizedMatrix codes = kvant::quantize(context_, weights, params);
  const LayerNeeds needs{.format = WeightFormat::int8_row,
                         .outputs = weights.rows,
                         .inputs = weights.cols,
                         .bias = bias.rows > 0};
  return place(layer, needs, [&](Context& at) -> Linear {
    return Int8Linear::from(at, codes, bias,
                            {.threshold = 0, .activation_scale = ActivationScale::per_tensor});
  });
}

ActivationOptions LayerMaker::activations() const {
  return {.threshold = plan().threshold, .outliers = outliers_, .arithmetic = plan().arithmetic};
}

std::unique_ptr<LinearLayer> LayerMaker::from_stored_layer(const LayerName& layer,
                                                           const LinearSpec& linear,
                                                           const std::vector<float>& bias) const {
  const std::string name = layer.file + ".weight";
  if (plan().scheme != Scheme::stored || skipped(layer) || !source_.is_quantized(name)) {
    return nullptr;
  }
  const auto read = [&](Context& at) {
    std::optional<PackedLayer> packed =
        linear.rows.empty() ? source_.packed(at, name) : source_.packed_rows(at, name, linear.rows);
    source_.release(name);
    return packed;
  };
  // (For the host first: only then it is known what they are.)
  const std::optional<PackedLayer> stored = read(context_);
  if (!stored) {
    expanded_.push_back(layer.full);
    return nullptr;
  }
  const PackedWeights& weights = stored->weights;
  if (weights.n() != linear.own_outputs() || weights.k() != linear.inputs) {
    throw Error(ErrorCode::shape_mismatch,
                "layer \"" + layer.file + "\" is [" + std::to_string(weights.n()) + ", " +
                    std::to_string(weights.k()) + "], config.json makes it [" +
                    std::to_string(linear.outputs) + ", " + std::to_string(linear.inputs) + "]");
  }
  ActivationOptions options = activations();
  const std::optional<QuantParams> inputs = source_.input_params(name);
  if (inputs && plan().arithmetic == Arithmetic::kvant) options.static_params = &*inputs;
  const LayerNeeds needs{.format = weights.format(),
                         .outputs = weights.n(),
                         .inputs = weights.k(),
                         .block = weights.block(),
                         .bias = !bias.empty(),
                         .arithmetic = options.arithmetic};
  std::unique_ptr<LinearLayer> result = place(layer, needs, [&](Context& at) {
    return Linear::from(&at == &context_ ? weights : read(at)->weights, bias_view(bias), options);
  });
  if (stored->order.empty()) return result;
  return std::make_unique<ReorderedLinear>(std::move(result), stored->order);
}

bool LayerMaker::holds_codes(const LayerName& layer) const {
  return plan().stored_int8 && source_.checkpoint() != nullptr &&
         io::is_int8_layer(*source_.checkpoint(), layer.file);
}

std::unique_ptr<LinearLayer> LayerMaker::from_stored_codes(const LayerName& layer,
                                                           const LinearSpec& linear,
                                                           const std::vector<float>& bias) const {
  const std::string& base = layer.file;
  if (skipped(layer)) {
    throw RequestError("layer " + base +
                       " is to stay in float, but is stored in 8 bits: its float weights are gone");
  }
  const io::Int8Layer stored = io::read_int8_layer(*source_.checkpoint(), base);
  if (stored.codes.rows() != linear.outputs || stored.codes.cols() != linear.inputs) {
    throw Error(ErrorCode::shape_mismatch,
                "tensor \"" + base + ".weight\" is [" + std::to_string(stored.codes.rows()) + ", " +
                    std::to_string(stored.codes.cols()) + "], config.json makes it [" +
                    std::to_string(linear.outputs) + ", " + std::to_string(linear.inputs) + "]");
  }
  Int8Options options;
  options.threshold = plan().threshold;
  options.arithmetic = plan().mode;
  options.outliers = outliers_;
  ConstAnyMatrix kept;
  // bitsandbytes knows the codes only; without a threshold nothing takes the float path.
  if (plan().mode == Arithmetic::kvant && plan().threshold > 0) {
    options.keep_columns = stored.kept_columns;
    kept = stored.kept_weights;
  }
  const LayerNeeds needs{.format = WeightFormat::int8_row,
                         .outputs = linear.own_outputs(),
                         .inputs = linear.inputs,
                         .bias = !bias.empty(),
                         .kept_columns = kept.cols,
                         .arithmetic = plan().mode};
  std::unique_ptr<LinearLayer> result = place(layer, needs, [&](Context& at) -> Linear {
    if (linear.rows.empty()) {
      return Int8Linear::from_codes(at, stored.codes, stored.absmax, bias_view(bias), options,
                                    kept);
    }
    const Int8Rows rows(stored, linear.rows);
    return Int8Linear::from_codes(at, rows.codes, rows.absmax, bias_view(bias), options,
                                  kept.rows != 0 ? rows.kept_weights() : kept);
  });
  source_.count_bytes(static_cast<std::uint64_t>(linear.own_outputs() * linear.inputs));
  source_.release(base + ".weight");
  return result;
}

}  // namespace kvant::models
