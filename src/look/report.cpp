#include "kvant/look/report.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/io/layer_reader.hpp"
#include "look/gguf_look.hpp"
#include "look/layer_tasks.hpp"

namespace kvant::look {
namespace {

std::uint64_t tensor_bytes(const io::Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const io::TensorInfo* info : checkpoint.tensors()) sum += info->bytes;
  return sum;
}

/// The layer whose weight a tensor is; "" for others.
std::string weight_layer(const io::FindTensor& find, const io::TensorInfo& tensor) {
  const io::StoredFormat* form = io::form_of(find, tensor);
  if (form == nullptr) return {};
  return tensor.name.substr(0, tensor.name.size() - form->codes().size());
}

std::string shape_of(const io::StoredLayer& layer) {
  return "[" + std::to_string(layer.outputs) + ", " + std::to_string(layer.inputs) + "]";
}

ErrorAccumulator compare_layer(const io::Checkpoint& model, const io::Checkpoint& quantized,
                               LayerReport& layer) {
  const io::LayerReader before(model, layer.before);
  const io::LayerReader after(quantized, layer.after);
  const std::int64_t block = io::rows_per_block(layer.before);
  const std::int64_t cols = layer.before.inputs;
  std::vector<float> a(static_cast<std::size_t>(std::min(block, layer.before.outputs) * cols));
  std::vector<float> b(a.size());
  ErrorAccumulator error;
  for (std::int64_t row = 0; row < layer.before.outputs; row += block) {
    const std::int64_t count = std::min(block, layer.before.outputs - row);
    before.read(row, count, a.data());
    after.read(row, count, b.data());
    error.add(MatrixView<const float>(a.data(), count, cols),
              MatrixView<const float>(b.data(), count, cols));
  }
  layer.outlier_columns = after.kept_columns();
  model.release(layer.before.tensor);
  quantized.release(layer.after.tensor);
  layer.error = error.metrics();
  layer.signal = error.signal();
  layer.squared_error = error.squared_error();
  return error;
}

/// Pairs the linear layers of both by name.
std::vector<LayerReport> pair_layers(const CheckpointReport& report,
                                     const std::vector<io::StoredLayer>& before,
                                     const std::vector<io::StoredLayer>& after) {
  std::map<std::string_view, const io::StoredLayer*> by_name;
  for (const io::StoredLayer& layer : after) by_name.emplace(layer.name, &layer);
  std::vector<LayerReport> layers;
  for (const io::StoredLayer& layer : before) {
    const auto it = by_name.find(layer.name);
    // Layers that are never quantized are rows of their own only where something happened to them.
    if (layer.stays_float && (it == by_name.end() || it->second->scheme() == layer.scheme()))
      continue;
    if (it == by_name.end()) {
      throw Error(ErrorCode::invalid_argument, report.quantized + ": has no linear layer " +
                                                   io::in_quotes(layer.name) + ", which " +
                                                   report.model + " has; are they the same model?");
    }
    if (it->second->outputs != layer.outputs || it->second->inputs != layer.inputs) {
      throw Error(ErrorCode::shape_mismatch, "layer " + io::in_quotes(layer.name) + " is " +
                                                 shape_of(layer) + " in " + report.model + " and " +
                                                 shape_of(*it->second) + " in " + report.quantized);
    }
    LayerReport& row = layers.emplace_back();
    row.before = layer;
    row.after = *it->second;
    row.bytes_before = layer.bytes;
    row.bytes_after = it->second->bytes;
  }
  if (layers.empty()) {
    throw Error(ErrorCode::unsupported, report.model + ": has no linear layers to compare");
  }
  return layers;
}

/// Everything that is not a linear weight: is it still the same?
void compare_others(const io::Checkpoint& model, const io::Checkpoint& quantized,
                    CheckpointReport& report) {
  std::set<std::string> linear;
  for (const LayerReport& layer : report.layers) linear.insert(layer.before.name);
  const io::FindTensor find = io::find_in(model);
  for (const io::TensorInfo* info : model.tensors()) {
    const auto part = io::part_of_layer(find, info->name);
    if (linear.contains(part ? part->layer : weight_layer(find, *info))) continue;
    ++report.other_tensors;
    const io::TensorInfo* other = quantized.find(info->name);
    if (other == nullptr) {
      report.warnings.push_back(
          {io::WarningKind::unmatched_tensor,
           "tensor " + io::in_quotes(info->name) + " is not in " + report.quantized});
      continue;
    }
    const auto a = model.tensor(info->name).data;
    const auto b = quantized.tensor(info->name).data;
    if (info->dtype == other->dtype && info->shape == other->shape &&
        std::equal(a.begin(), a.end(), b.begin(), b.end())) {
      ++report.other_equal;
    }
    model.release(info->name);
    quantized.release(info->name);
  }
}

}  // namespace

CheckpointReport report_checkpoint(const std::filesystem::path& model_path,
                                   const std::filesystem::path& quantized_path,
                                   const ReportOptions& options) {
  if (io::is_gguf_file(model_path) || io::is_gguf_file(quantized_path)) {
    return report_gguf(model_path, quantized_path, options);
  }
  CheckpointReport report;
  report.model = model_path.string();
  report.quantized = quantized_path.string();
  constexpr io::CheckpointOptions kAllowTied{.allow_missing = true};
  const io::Checkpoint model(model_path, kAllowTied);
  const io::Checkpoint quantized(quantized_path, kAllowTied);
  const io::ModelHints hints = io::model_hints_of(model_path);
  io::ModelHints quantized_hints = io::model_hints_of(quantized_path);
  for (const std::string& problem : {hints.problem, quantized_hints.problem}) {
    if (problem.empty()) continue;
    report.warnings.push_back({io::WarningKind::config, "config.json was not used: " + problem});
  }
  if (quantized_hints.model_type.empty())
    quantized_hints = hints;  // a file without its config.json
  report.layers = pair_layers(report, io::find_linear_layers(model, hints),
                              io::find_linear_layers(quantized, quantized_hints));
  std::vector<ErrorAccumulator> errors(report.layers.size());
  std::uint64_t done_bytes = 0;
  std::uint64_t all_bytes = 0;
  for (const LayerReport& layer : report.layers) all_bytes += layer.bytes_before;
  for_each_layer(
      report.layers.size(), options.threads,
      [&](std::size_t i) { errors[i] = compare_layer(model, quantized, report.layers[i]); },
      [&](std::size_t i) {
        done_bytes += report.layers[i].bytes_before;
        if (options.progress) options.progress(done_bytes, all_bytes, report.layers[i].before.name);
      });
  ErrorAccumulator total;
  for (const ErrorAccumulator& error : errors) total.add(error);
  report.total = total.metrics();
  report.bytes_before = tensor_bytes(model);
  report.bytes_after = tensor_bytes(quantized);
  compare_others(model, quantized, report);
  return report;
}

}  // namespace kvant::look
