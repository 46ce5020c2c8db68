#include "io/convert/quantize_checks.hpp"

#include <cmath>
#include <cstdio>

#include "io/checkpoint/linear_rules.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, what);
}

}  // namespace

float input_scale_of(const std::string& layer, const QuantizeCheckpointOptions& options,
                     const StoredFormat& form) {
  if (!form.keeps_input_scales()) {
    refuse("static scales of activations are for int8 in the form of compressed-tensors");
  }
  const auto it = options.input_scales.find(layer);
  if (it == options.input_scales.end() || !(it->second > 0) || std::isinf(it->second)) {
    refuse("layer " + in_quotes(layer) + " has no static scale of its activations" +
           (it == options.input_scales.end() ? std::string(" (keep it in float: --skip)")
                                             : ": " + std::to_string(it->second)));
  }
  return it->second;
}

void check_kept_columns(const std::string& layer, const std::vector<std::int64_t>& columns,
                        std::uint64_t inputs) {
  std::int64_t last = -1;
  for (const std::int64_t column : columns) {
    if (column <= last || static_cast<std::uint64_t>(column) >= inputs) {
      refuse("layer " + in_quotes(layer) + ": column " + std::to_string(column) + " after " +
             std::to_string(last) + "; columns to keep ascend and are below its " +
             std::to_string(inputs) + " input features");
    }
    last = column;
  }
}

void warn_of_experts(const CheckpointSource& source, const std::set<std::string>& quantized,
                     std::vector<Warning>& warnings) {
  std::uint64_t experts = 0;
  std::uint64_t all = 0;
  std::string example;
  for (const SourceTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    all += info.bytes;
    const auto layer = layer_of_weight(info.name);
    if (info.name.find("experts") == std::string::npos || info.shape.size() < 2) continue;
    if (layer && quantized.contains(std::string(*layer))) continue;
    experts += info.bytes;
    if (example.empty()) example = info.name;
  }
  if (experts == 0) return;
  char share[32];
  std::snprintf(share, sizeof share, "%.0f%%",
                100.0 * static_cast<double>(experts) / static_cast<double>(all));
  warnings.push_back(
      {WarningKind::experts_stay,
       "weights of experts (" + in_quotes(example) +
           ", ...) stay as they are: " + std::to_string(experts) + " bytes, " + share +
           " of the model; transformers has all experts of a block in one module, which "
           "bitsandbytes does not quantize"});
}

}  // namespace kvant::io
