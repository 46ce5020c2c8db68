#include "kvant/models/report_activations.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/methods/estimates.hpp"
#include "kvant/models/load.hpp"
#include "models/calibrate/input_scaling.hpp"
#include "models/calibrate/same_model.hpp"
#include "models/load/parts.hpp"

namespace kvant::models {
namespace {

/// Rarer things than one in so many tokens are what outliers are about.
constexpr std::int64_t kFewTokens = 1000;

/// Fewer, and features seem to make up for each other that do so on this text alone.
constexpr std::int64_t kTokensPerFeature = 4;

using methods::InputStatistics;

/// Powers of two, of which the topmost are kept.
void fill_histogram(const InputStatistics& seen, look::ActivationInput& input) {
  constexpr std::size_t kKept = 24;
  constexpr std::size_t kBinsOfPower = 8;
  std::vector<std::int64_t> counts(InputStatistics::kBins / kBinsOfPower);
  for (std::size_t i = 0; i < seen.histogram.size(); ++i) {
    counts[i / kBinsOfPower] += seen.histogram[i];
  }
  std::size_t last = counts.size() - 1;
  while (last > 0 && counts[last] == 0) --last;
  std::size_t first = 1;  // 0 are zeros and subnormal numbers
  while (first < last && counts[first] == 0) ++first;
  first = std::max(first, last >= kKept ? last - kKept + 1 : 1);
  for (std::size_t i = 0; i < first; ++i) input.zeros += counts[i];
  for (std::size_t i = first; i <= last; ++i) {
    const int exponent = static_cast<int>(i) - 127;
    input.histogram.push_back({std::ldexp(1.0, exponent), std::ldexp(2.0, exponent), counts[i]});
  }
}

void fill_distribution(const InputStatistics& seen, std::size_t listed,
                       look::ActivationInput& input) {
  input.features = seen.features();
  input.tokens = seen.rows;
  input.outlier_tokens = seen.outlier_rows;
  for (std::int64_t i = 0; i < seen.features(); ++i) {
    input.largest = std::max(input.largest, static_cast<double>(seen.absmax(i)));
  }
  const auto magnitude = [&](double share) {  // to the upper end of its bin
    return std::min(static_cast<double>(seen.percentile(share)), input.largest);
  };
  input.median = magnitude(0.5);
  input.p99 = magnitude(0.99);
  input.p999 = magnitude(0.999);
  input.p9999 = magnitude(0.9999);
  const std::vector<std::int64_t> features = seen.outlier_features();
  input.outlier_features = static_cast<std::int64_t>(features.size());
  for (const std::int64_t i : features) {
    input.outliers.push_back({i, static_cast<double>(seen.absmax(i)), seen.mean_abs(i),
                              seen.outliers[static_cast<std::size_t>(i)]});
  }
  std::stable_sort(input.outliers.begin(), input.outliers.end(),
                   [](const auto& a, const auto& b) { return a.largest > b.largest; });
  if (input.outliers.size() > listed) input.outliers.resize(listed);
  fill_histogram(seen, input);
}

class Reporter {
 public:
  Reporter(Context& context, const std::filesystem::path& path, const Config& config,
           const StatisticsFile& statistics, const ReportActivationsOptions& options)
      : context_(context),
        config_(config),
        statistics_(statistics),
        options_(options),
        source_(open_float_weights(path, config)),
        parts_(context, config, load_options_, *source_) {
    report_.model = path.string();
    report_.group = options.group;
  }

  look::ActivationReport run() {
    for (const ScalableInput& input : scalable_inputs(config_, parts_, *source_)) {
      for (const std::string& layer : input.layers) {
        scalable_.insert(layer);
        if (input.is_norm) behind_norm_.insert(layer);
      }
    }
    collect();
    for (const Readers& readers : readers_) add(readers);
    say_what_is_missing();
    return std::move(report_);
  }

 private:
  struct Reader {
    LayerName name;
    LinearSpec spec;
  };
  using Readers = std::vector<Reader>;

  /// The model's layers by the inputs that they read.
  void collect() {
    std::map<std::string, std::size_t> places;
    const auto add_layer = [&](const LayerName& name, LinearSpec spec) {
      spec.slot = nullptr;  // of a block that is gone when it is read
      const bool known = statistics_.contains(name.file);
      missing_ += !known;
      const std::string& input = known ? statistics_.inputs().at(name.file) : name.file;
      const auto [place, fresh] = places.emplace(input, readers_.size());
      if (fresh) readers_.emplace_back();
      readers_[place->second].push_back({name, std::move(spec)});
    };
    for (const Stack& stack : parts_.stacks()) {
      for (std::int64_t n = 0; n < stack.layers; ++n) {
        Block block = empty_block(config_, *stack.linears);
        for (const LinearSpec& spec : parts_.linears(stack, block)) {
          add_layer(parts_.name_of(stack.name(n, spec.name)), spec);
        }
      }
    }
    Model model;
    if (const auto head = parts_.head_linear(model)) {
      add_layer({head->name, head->name, head->name}, *head);
    }
  }

  void add(const Readers& readers) {
    if (options_.cancel != nullptr && options_.cancel->load()) {
      throw Error(ErrorCode::cancelled, "stopped; nothing was written");
    }
    const std::string& first = readers.front().name.file;
    if (options_.progress) {
      options_.progress(static_cast<std::int64_t>(report_.inputs.size()),
                        static_cast<std::int64_t>(readers_.size()), first);
    }
    look::ActivationInput& input = report_.inputs.emplace_back();
    for (const Reader& reader : readers) {
      input.layers.push_back(reader.name.file);
      input.outputs += reader.spec.outputs;
    }
    input.features = readers.front().spec.inputs;
    if (!statistics_.contains(first)) {
      input.note = "the statistics do not have it";
      return;
    }
    const InputStatistics seen = statistics_.statistics(first);
    if (seen.features() != input.features) {
      throw Error(ErrorCode::invalid_file,
                  "the statistics of \"" + first + "\" are of " + std::to_string(seen.features()) +
                      " inputs, the layer has " + std::to_string(input.features) +
                      "; they are of another model");
    }
    report_.threshold = static_cast<double>(seen.threshold);
    report_.tokens = std::max(report_.tokens, seen.rows);
    if (seen.rows == 0) {
      input.note = "no token of the text reached it";
      return;
    }
    fill_distribution(seen, options_.outliers, input);
    estimate(readers, seen, input);
  }

  void estimate(const Readers& readers, const InputStatistics& seen, look::ActivationInput& input) {
    std::vector<std::vector<float>> values;
    std::vector<MatrixView<const float>> layers;
    for (const Reader& reader : readers) {
      const WeightMatrix weights = parts_.linear(reader.spec, reader.name).weights;
      values.push_back(weights.floats(context_));
      layers.emplace_back(values.back().data(), weights.rows(), weights.cols());
      source_->release(reader.name.file + ".weight");
    }
    std::optional<methods::GramMatrix> moments;
    if (statistics_.has_moments()) moments = statistics_.moments(readers.front().name.file);
    const std::string& first = readers.front().name.file;
    const methods::MethodEstimates found =
        methods::estimate_methods(context_, layers, seen, moments ? &*moments : nullptr,
                                  {.scheme = {.bits = 4, .group = options_.group},
                                   .smoothquant = behind_norm_.contains(first),
                                   .awq = scalable_.contains(first)});
    input.int8 = {
        {"int8", found.int8}, {"smoothquant", found.smoothquant}, {"llm-int8", found.llm_int8}};
    input.int4 = {{"int4", found.nearest}, {"awq", found.awq}, {"gptq", found.gptq}};
  }

  void say_what_is_missing() {
    if (missing_ > 0) {
      report_.warnings.push_back("the statistics lack " + std::to_string(missing_) +
                                 " of the model's layers, which are listed without figures");
    }
    if (report_.tokens < kFewTokens) {
      report_.warnings.push_back("only " + std::to_string(report_.tokens) +
                                 " tokens: outliers that are rare, and percentiles near 100 %, "
                                 "show in thousands");
    }
    std::int64_t widest = 0;
    for (const look::ActivationInput& input : report_.inputs) {
      widest = std::max(widest, input.features);
    }
    if (statistics_.has_moments() && report_.tokens < kTokensPerFeature * widest) {
      report_.warnings.push_back(
          std::to_string(report_.tokens) + " tokens for inputs of up to " + std::to_string(widest) +
          " features: with so few, gptq looks better than it is on another text");
    }
    if (!statistics_.has_moments()) {
      report_.warnings.emplace_back(
          "the statistics hold no second moments: gptq is not estimated, and awq from means");
    }
  }

  Context& context_;
  const Config& config_;
  const StatisticsFile& statistics_;
  const ReportActivationsOptions& options_;
  LoadOptions load_options_;
  std::unique_ptr<WeightSource> source_;
  PartLoader parts_;
  std::set<std::string> scalable_;
  std::set<std::string> behind_norm_;
  std::vector<Readers> readers_;
  std::int64_t missing_ = 0;
  look::ActivationReport report_;
};

}  // namespace

look::ActivationReport report_activations(Context& context, const std::filesystem::path& path,
                                          const Config& config, const StatisticsFile& statistics,
                                          const ReportActivationsOptions& options) {
  check_same_model(context, path, config, statistics, "report");
  return Reporter(context, path, config, statistics, options).run();
}

}  // namespace kvant::models
