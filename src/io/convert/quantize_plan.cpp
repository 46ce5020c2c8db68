#include "io/convert/quantize_plan.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "io/checkpoint/foreign_formats.hpp"
#include "io/checkpoint/linear_rules.hpp"
#include "io/checkpoint/skip_modules.hpp"
#include "io/convert/odd_names.hpp"
#include "io/convert/quantize_checks.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/io/tensor.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

/// The element type of a floating scheme.
std::optional<DType> float_type(WeightScheme scheme) {
  if (!scheme.format || scheme.quantizes()) return std::nullopt;
  return describe(*scheme.format).codes;
}

[[noreturn]] void refuse(ErrorCode code, const std::string& what) {
  throw Error(code, what);
}

class Planner {
 public:
  Planner(const CheckpointSource& source, const QuantizeCheckpointOptions& options)
      : source_(source),
        options_(options),
        config_(source.config()),
        find_(find_in(source.checkpoint())),
        rules_(source.hints()) {}

  QuantizePlan make() {
    refuse_quantized();
    if (!(options_.threshold >= 0) || std::isinf(options_.threshold)) {
      refuse(ErrorCode::invalid_argument, "the threshold is " + std::to_string(options_.threshold) +
                                              ", not a finite number from 0 up");
    }
    plan_.metadata = source_.checkpoint().metadata();
    plan_.metadata.emplace("format", "pt");
    plan_.summary.model_type = source_.config().model_type();
    plan_.summary.warnings = source_.checkpoint().warnings();
    for (const SourceTensor& tensor : source_.tensors()) add(tensor);
    warn_of_names(source_, plan_.summary.warnings);
    check_rules();
    check_keep_outliers();
    finish();
    return std::move(plan_);
  }

 private:
  void refuse_quantized() const {
    const std::string advice =
        " is quantized already; quantize the original, or make a float model of it first (kvant "
        "dequantize)";
    if (const auto method = foreign_quantization(source_.hints(), source_.checkpoint().tensors())) {
      refuse(ErrorCode::unsupported, "the model is quantized already, by " + *method +
                                         ", which is not read here; quantize the original");
    }
    // What is wrong with the layers comes first.
    const std::vector<StoredLayer> layers = quantized_layers(source_.checkpoint(), source_.hints());
    if (!layers.empty()) {
      refuse(ErrorCode::unsupported,
             "the model (layer " + in_quotes(layers.front().name) + ")" + advice);
    }
    if (const auto method = source_.config().quant_method()) {
      refuse(ErrorCode::unsupported,
             "the model (quantization_config in config.json, quant_method " + in_quotes(*method) +
                 ")" + advice);
    }
  }

  [[nodiscard]] const StoredFormat* form_of_scheme(WeightScheme scheme) const {
    return form_writing(*scheme.format, options_.quant_method);
  }

  [[nodiscard]] std::int64_t block_of(WeightScheme scheme) const {
    return options_.block != 0 ? options_.block : describe(*scheme.format).block;
  }

  [[nodiscard]] WeightScheme scheme_of(const std::string& layer) const {
    WeightScheme result = options_.scheme;
    for (const LayerRule& rule : options_.rules) {
      if (glob_match(rule.pattern, layer)) result = rule.scheme;
    }
    return result;
  }

  void add(const SourceTensor& tensor) {
    const TensorInfo& info = *tensor.info;
    plan_.summary.bytes_before += info.bytes;
    const auto layer = layer_of_weight(info.name);
    const WeightKind kind = layer ? rules_.judge(*layer, info, find_) : WeightKind::other;
    if (kind == WeightKind::other) {
      // What is a table by its name only may be a layer.
      if (layer && info.shape.size() == 2 && !rules_.known()) keep_.insert(std::string(*layer));
      add_float(tensor, options_.scheme);
    } else {
      add_linear(tensor, std::string(*layer), kind);
    }
  }

  /// As it is, or converted where the scheme is a float type and the tensor one too.
  WeightScheme add_float(const SourceTensor& tensor, WeightScheme scheme) {
    const TensorInfo& info = *tensor.info;
    const std::optional<DType> to = float_type(scheme);
    if (const WeightScaling* scaling = scaling_of(info.name)) {
      const bool transposed =
          info.shape.size() == 2 && rules_.transposed(*layer_of_weight(info.name));
      plan_.outputs.push_back({info.name, to.value_or(info.dtype), info.shape});
      plan_.jobs.push_back(scale_job(tensor, *scaling, to.value_or(info.dtype), transposed));
      return to ? scheme : WeightScheme::keep;
    }
    if (!to || *to == info.dtype || !is_convertible(info.dtype)) {
      plan_.outputs.push_back({info.name, info.dtype, info.shape});
      plan_.jobs.push_back(copy_job(tensor));
      return WeightScheme::keep;
    }
    plan_.outputs.push_back({info.name, *to, info.shape});
    plan_.jobs.push_back(convert_job(tensor, *to));
    return scheme;
  }

  void add_linear(const SourceTensor& tensor, const std::string& name, WeightKind kind) {
    const TensorInfo& info = *tensor.info;
    linears_.insert(name);
    PlannedLayer layer;
    layer.name = name;
    layer.stored = info.dtype;
    layer.shape = info.shape;
    layer.bytes_before = info.bytes;
    layer.scheme = scheme_of(name);
    if (layer.scheme.quantizes() && kind != WeightKind::linear) {
      layer.scheme = WeightScheme::keep;
    }
    if (!layer.scheme.quantizes() && kind == WeightKind::linear) kept_linear_.insert(name);
    const std::size_t first = plan_.outputs.size();
    if (layer.scheme.quantizes()) {
      add_quantized(tensor, layer);
    } else {
      layer.scheme = add_float(tensor, layer.scheme);
    }
    for (std::size_t i = first; i < plan_.outputs.size(); ++i) {
      layer.bytes_after += byte_size(plan_.outputs[i]);
    }
    plan_.summary.layers.push_back(std::move(layer));
  }

  void add_quantized(const SourceTensor& tensor, PlannedLayer& layer) {
    const TensorInfo& info = *tensor.info;
    if (!is_convertible(info.dtype)) {
      refuse(ErrorCode::unsupported, "layer " + in_quotes(layer.name) + " is " +
                                         describe_tensor(info.dtype, info.shape) +
                                         "; only F32, F16 and BF16 can be quantized (--skip it)");
    }
    const StoredFormat* form = form_of_scheme(layer.scheme);
    if (form == nullptr && form_writing(*layer.scheme.format) != nullptr) {
      refuse(ErrorCode::unsupported, std::string(to_string(layer.scheme)) +
                                         " has no form of quant_method " +
                                         in_quotes(options_.quant_method));
    }
    if (form == nullptr) {
      refuse(ErrorCode::unsupported, "checkpoints are not written in " +
                                         std::string(to_string(layer.scheme)) + ", but in " +
                                         weight_scheme_names());
    }
    if (layer.scheme == WeightScheme::llm_int8 && form->quant_method() == "compressed-tensors") {
      refuse(ErrorCode::invalid_argument,
             "compressed-tensors has no outlier features; choose int8 instead of llm-int8");
    }
    schemes_.insert(layer.scheme);
    quantized_.insert(layer.name);
    const bool transposed = rules_.transposed(layer.name);
    NewLayer result{.name = layer.name,
                    .outputs = info.shape[transposed ? 1 : 0],
                    .inputs = info.shape[transposed ? 0 : 1],
                    .format = *layer.scheme.format,
                    .dtype = info.dtype,
                    .block = options_.block,
                    .nested = options_.nested,
                    .zero_points = options_.zero_points};
    if (!options_.input_scales.empty())
      result.input_scale = input_scale_of(layer.name, options_, *form);
    form->check_new(result);
    if (result.inputs > static_cast<std::uint64_t>(kMaxInnerDimension)) {
      refuse(ErrorCode::unsupported,
             "layer " + in_quotes(layer.name) + " has " + std::to_string(result.inputs) +
                 " inputs; sums of products of int8 codes fit 32 bits up to " +
                 std::to_string(kMaxInnerDimension) + " (--skip it)");
    }
    if (const auto it = options_.keep_outliers.find(layer.name);
        it != options_.keep_outliers.end() && !it->second.empty() && form->keeps_columns()) {
      result.kept_columns = it->second;
      check_kept_columns(layer.name, result.kept_columns, result.inputs);
      layer.kept_columns = static_cast<std::int64_t>(result.kept_columns.size());
    }
    for (TensorSpec& spec : form->specs(result)) plan_.outputs.push_back(std::move(spec));
    plan_.jobs.push_back(quantize_job(tensor, *form, std::move(result),
                                      {.transposed = transposed,
                                       .scaling = scaling_of(info.name),
                                       .encoder = encoder_of(*form)}));
  }

  /// Null where there is none.
  [[nodiscard]] const WeightScaling* scaling_of(const std::string& tensor) const {
    const auto it = options_.scalings.find(tensor);
    return it == options_.scalings.end() ? nullptr : &it->second;
  }

  /// Codes in groups may be chosen by others.
  [[nodiscard]] const LayerEncoder* encoder_of(const StoredFormat& form) const {
    const bool groups = form.quant_method() == "gptq" || form.quant_method() == "awq";
    return groups ? options_.encoder.get() : nullptr;
  }

  void check_rules() const {
    const std::vector<std::string> heads = rules_.heads();  // tied ones are not in the file
    for (const LayerRule& rule : options_.rules) {
      const auto matched = [&](const std::string& layer) {
        return glob_match(rule.pattern, layer);
      };
      if (std::any_of(linears_.begin(), linears_.end(), matched)) continue;
      if (std::any_of(heads.begin(), heads.end(), matched)) continue;
      refuse(ErrorCode::invalid_argument,
             "the pattern " + in_quotes(rule.pattern) + " matches no linear layer" +
                 (linears_.empty() ? std::string()
                                   : " (they are named like " + *linears_.rbegin() + ")"));
    }
  }

  void check_keep_outliers() const {
    for (const auto& [layer, columns] : options_.keep_outliers) {
      if (!quantized_.contains(layer)) {
        refuse(ErrorCode::invalid_argument,
               "columns to keep are given for " + in_quotes(layer) + ", which is not among the " +
                   std::to_string(quantized_.size()) + " quantized layers");
      }
    }
    if (schemes_.size() > 1) {
      refuse(ErrorCode::invalid_argument,
             std::string(to_string(*schemes_.begin())) + " and " +
                 std::string(to_string(*schemes_.rbegin())) +
                 " in one model: config.json describes one quantization for all layers");
    }
    if (options_.outliers == Outliers::calibrated && options_.keep_outliers.empty()) {
      refuse(
          ErrorCode::invalid_argument,
          "outliers are calibrated, but no columns to keep are given: no outlier feature would be "
          "multiplied in floating point (kvant quantize: --calibrate or --keep-outliers)");
    }
    if (!options_.keep_outliers.empty() && threshold() == 0) {
      refuse(ErrorCode::invalid_argument,
             "columns to keep are for llm-int8 with a threshold above 0");
    }
  }

  /// Modules that transformers must keep in float, as llm_int8_skip_modules has them.
  [[nodiscard]] std::vector<std::string> skip_modules() const {
    SkipTask task{.keep = keep_, .quantized = quantized_, .renamed = rules_.renamed()};
    for (const std::string& layer : linears_) {
      if (!quantized_.contains(layer)) task.keep.insert(as_module(layer));
    }
    // Where a head is tied it is not in the file, and still a layer of the loaded model.
    for (std::string& head : rules_.heads()) task.keep.insert(std::move(head));
    for (const SourceTensor& tensor : source_.tensors()) {
      if (auto head = rules_.tied_head(*tensor.info, find_)) task.keep.insert(std::move(*head));
    }
    return make_skip_modules(task);
  }

  /// The module that an entry can name: experts are one module, and torch's MultiheadAttention may
  /// be taken apart into layers that the file does not have.
  [[nodiscard]] std::string as_module(const std::string& layer) const {
    constexpr std::string_view kExperts = ".experts.";
    if (const std::size_t at = layer.find(kExperts); at != std::string::npos) {
      return layer.substr(0, at + kExperts.size() - 1);
    }
    const std::size_t dot = layer.rfind('.');
    if (dot != std::string::npos && layer.ends_with(".out_proj") &&
        find_(layer.substr(0, dot) + ".in_proj_weight").info != nullptr) {
      return layer.substr(0, dot);
    }
    return layer;
  }

  /// As config.json names it.
  [[nodiscard]] DType model_dtype() const {
    const std::optional<DType> named = dtype_from_name(source_.config().dtype());
    return named && is_convertible(*named) ? *named : DType::float32;
  }

  /// Only LLM.int8() has one.
  [[nodiscard]] float threshold() const {
    return schemes_.contains(WeightScheme::llm_int8) ? options_.threshold : 0.0f;
  }

  void finish() {
    CheckpointSummary& summary = plan_.summary;
    for (const TensorSpec& tensor : plan_.outputs) summary.bytes_after += byte_size(tensor);
    std::sort(summary.layers.begin(), summary.layers.end(),
              [](const PlannedLayer& a, const PlannedLayer& b) { return a.name < b.name; });
    if (!rules_.known()) {
      summary.warnings.push_back(
          {WarningKind::unknown_model,
           "model_type " + in_quotes(summary.model_type) +
               " is not known here: all two-dimensional weights that look like no embedding, "
               "output "
               "head, router or expert are taken for linear layers, which is a guess; check the "
               "list "
               "(--dry-run), and exclude with --skip what transformers does not replace"});
    }
    if (options_.scheme.quantizes() || !schemes_.empty()) {
      warn_of_experts(source_, quantized_, summary.warnings);
    }
    if (schemes_.empty()) {
      if (options_.scheme.quantizes()) {
        summary.warnings.push_back({WarningKind::nothing_quantized,
                                    "no layer becomes " + std::string(to_string(options_.scheme))});
      }
    } else {
      summary.skip_modules = skip_modules();
      if (rules_.known() && rules_.renamed_inside() && !kept_linear_.empty()) {
        summary.warnings.push_back(
            {WarningKind::renamed_layers,
             "layer " + in_quotes(*kept_linear_.begin()) + " (and " +
                 std::to_string(kept_linear_.size() - 1) +
                 " more) stay in float, but transformers has other names for the layers of "
                 "model_type " +
                 in_quotes(summary.model_type) +
                 " and would quantize them: correct llm_int8_skip_modules in "
                 "config.json "
                 "by the names of the loaded model, or quantize all layers"});
      }
      const StoredFormat& form = *form_of_scheme(*schemes_.begin());
      config_.set_quantization(
          form.quantization_config({.threshold = threshold(),
                                    .float_layers = summary.skip_modules,
                                    .format = *schemes_.begin()->format,
                                    .dtype = model_dtype(),
                                    .block = block_of(*schemes_.begin()),
                                    .nested = options_.nested,
                                    .zero_points = options_.zero_points,
                                    .act_order = options_.act_order,
                                    .static_inputs = !options_.input_scales.empty()}));
      if (options_.outliers != Outliers::per_call) {
        plan_.metadata[std::string(kOutliersMetadata)] = to_string(options_.outliers);
      }
    }
    if (const auto dtype = float_type(options_.scheme)) {
      config_.set_dtype(std::string(kvant::to_string(*dtype)));
    }
    plan_.config = config_.text();
  }

  const CheckpointSource& source_;
  const QuantizeCheckpointOptions& options_;
  ConfigFile config_;
  FindTensor find_;
  LinearRules rules_;
  QuantizePlan plan_;
  std::set<std::string> linears_;      ///< those in the file
  std::set<std::string> kept_linear_;  ///< that transformers would quantize, but for the list
  std::set<std::string> keep_;         ///< further modules that must stay in float
  std::set<std::string> quantized_;
  std::set<WeightScheme> schemes_;
};

}  // namespace

bool is_convertible(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

QuantizePlan plan_quantization(const CheckpointSource& source,
                               const QuantizeCheckpointOptions& options) {
  return Planner(source, options).make();
}

}  // namespace kvant::io
