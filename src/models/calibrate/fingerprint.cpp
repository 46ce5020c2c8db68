// What tells a model from another one of the same shape.

#include "kvant/error.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/statistics.hpp"
#include "models/calibrate/fnv.hpp"
#include "models/calibrate/same_model.hpp"
#include "models/load/parts.hpp"

namespace kvant::models {

std::string model_fingerprint(Context& context, const std::filesystem::path& path,
                              const Config& config) {
  const std::unique_ptr<WeightSource> source = open_float_weights(path, config);
  const LoadOptions options;
  const PartLoader parts(context, config, options, *source);
  Fnv hash;
  std::vector<std::byte> row;
  std::vector<float> floats;
  for (const Stack& stack : parts.stacks()) {
    Block block = empty_block(config, *stack.linears);
    for (std::int64_t n = 0; n < stack.layers; ++n) {
      for (const LinearSpec& spec : parts.linears(stack, block)) {
        const LayerName name = parts.name_of(stack.name(n, spec.name));
        const std::string tensor = name.file + ".weight";
        const SourceTensor info = source->describe(tensor);
        const auto count = static_cast<std::int64_t>(info.shape.back());
        row.resize(static_cast<std::size_t>(count) * sizeof(float));
        source->read(tensor, 0, 1, row.data());
        floats.resize(static_cast<std::size_t>(count));
        context.kernels().convert({row.data(), info.dtype, floats.data(), DType::float32, count});
        hash.add(name.bare.data(), name.bare.size());
        hash.add(info.shape.data(), info.shape.size() * sizeof(info.shape[0]));
        hash.add(floats.data(), floats.size() * sizeof(float));
        source->release(tensor);
      }
    }
  }
  return std::to_string(hash.value());
}

void check_same_model(Context& context, const std::filesystem::path& model, const Config& config,
                      const StatisticsFile& statistics, const std::string& who) {
  const auto other = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_file, who + ": the statistics are of " + what);
  };
  if (statistics.model_type() != config.model_type) {
    other("a model of type " + statistics.model_type() + ", this one is of type " +
          std::string(config.model_type));
  }
  if (statistics.fingerprint() != model_fingerprint(context, model, config)) {
    other("another model: its weights are different; calibrate this one");
  }
}

}  // namespace kvant::models
