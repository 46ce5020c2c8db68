#include <algorithm>
#include <string>
#include <vector>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/gguf.hpp"
#include "look/gguf_look.hpp"
#include "look/layer_tasks.hpp"

namespace kvant::look {
namespace {

/// A matrix of a GGUF file as a layer; experts of one tensor lie one below the other.
io::StoredLayer as_layer(const io::TensorInfo& info, const io::GgufTensor& tensor) {
  io::StoredLayer layer;
  layer.name = info.name;
  layer.tensor = info.name;
  layer.stored_as = tensor.type->name;
  layer.dtype = info.dtype;
  // What is nearest, for who wants to tell wide from narrow.
  layer.format = tensor.type->dtype                                     ? WeightFormat::float32
                 : tensor.type->bytes * 8 >= 8u * tensor.type->elements ? WeightFormat::int8_group
                                                                        : WeightFormat::int4_group;
  layer.inputs = static_cast<std::int64_t>(tensor.shape.back());
  layer.outputs = static_cast<std::int64_t>(info.bytes / tensor.type->bytes *
                                            tensor.type->elements / tensor.shape.back());
  layer.bytes = info.bytes;
  return layer;
}

bool is_layer(const io::TensorInfo& info, const io::GgufTensor& tensor) {
  return tensor.shape.size() >= 2 && info.bytes > 0 && info.name.ends_with(".weight");
}

/// Pairs the matrices by name, compares the other tensors at once.
void pair_tensors(const io::Gguf& model, const io::Gguf& quantized, CheckpointReport& report) {
  for (const io::TensorInfo& info : model.tensors()) {
    const io::GgufTensor& tensor = *model.find_gguf(info.name);
    report.bytes_before += info.bytes;
    const io::TensorInfo* other = quantized.find(info.name);
    if (other == nullptr) {
      report.warnings.push_back(
          {io::WarningKind::unmatched_tensor,
           "tensor " + io::in_quotes(info.name) + " is not in " + report.quantized});
      continue;
    }
    const io::GgufTensor& after = *quantized.find_gguf(info.name);
    if (after.shape != tensor.shape) {
      throw Error(ErrorCode::shape_mismatch, "tensor " + io::in_quotes(info.name) + " is " +
                                                 io::describe_tensor(info.dtype, tensor.shape) +
                                                 " in " + report.model + " and " +
                                                 io::describe_tensor(other->dtype, after.shape) +
                                                 " in " + report.quantized);
    }
    if (is_layer(info, tensor) && tensor.type->dequantize != nullptr &&
        after.type->dequantize != nullptr) {
      LayerReport& row = report.layers.emplace_back();
      row.before = as_layer(info, tensor);
      row.after = as_layer(*other, after);
      row.bytes_before = info.bytes;
      row.bytes_after = other->bytes;
      continue;
    }
    ++report.other_tensors;
    const auto a = model.tensor(info.name).data;
    const auto b = quantized.tensor(info.name).data;
    report.other_equal +=
        after.type == tensor.type && std::equal(a.begin(), a.end(), b.begin(), b.end()) ? 1u : 0u;
  }
  for (const io::TensorInfo& info : quantized.tensors()) report.bytes_after += info.bytes;
  std::sort(report.layers.begin(), report.layers.end(),
            [](const LayerReport& a, const LayerReport& b) {
              return io::natural_less(a.before.name, b.before.name);
            });
  if (report.layers.empty()) {
    throw Error(ErrorCode::unsupported,
                report.model + " and " + report.quantized + " have no matrix in common to compare");
  }
}

ErrorAccumulator compare(const io::Gguf& model, const io::Gguf& quantized, LayerReport& layer) {
  const std::int64_t cols = layer.before.inputs;
  const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / cols);
  std::vector<float> a(static_cast<std::size_t>(std::min(step, layer.before.outputs) * cols));
  std::vector<float> b(a.size());
  ErrorAccumulator error;
  for (std::int64_t row = 0; row < layer.before.outputs; row += step) {
    const std::int64_t count = std::min(step, layer.before.outputs - row);
    model.dequantize(layer.before.tensor, row, count, a.data());
    quantized.dequantize(layer.before.tensor, row, count, b.data());
    error.add(MatrixView<const float>(a.data(), count, cols),
              MatrixView<const float>(b.data(), count, cols));
  }
  model.release(layer.before.tensor);
  quantized.release(layer.before.tensor);
  layer.error = error.metrics();
  layer.signal = error.signal();
  layer.squared_error = error.squared_error();
  return error;
}

}  // namespace

CheckpointReport report_gguf(const std::filesystem::path& model_path,
                             const std::filesystem::path& quantized_path,
                             const ReportOptions& options) {
  CheckpointReport report;
  report.model = model_path.string();
  report.quantized = quantized_path.string();
  for (const auto& path : {model_path, quantized_path}) {
    if (io::is_gguf_file(path)) continue;
    throw Error(ErrorCode::unsupported,
                path.string() +
                    " is no GGUF file, the other one is: bring both into one form "
                    "with kvant convert (for instance into .gguf --type f32)");
  }
  const io::Gguf model(model_path);
  const io::Gguf quantized(quantized_path);
  pair_tensors(model, quantized, report);
  std::vector<ErrorAccumulator> errors(report.layers.size());
  std::uint64_t done = 0;
  std::uint64_t all = 0;
  for (const LayerReport& layer : report.layers) all += layer.bytes_before;
  for_each_layer(
      report.layers.size(), options.threads,
      [&](std::size_t i) { errors[i] = compare(model, quantized, report.layers[i]); },
      [&](std::size_t i) {
        done += report.layers[i].bytes_before;
        if (options.progress) options.progress(done, all, report.layers[i].before.name);
      });
  ErrorAccumulator total;
  for (const ErrorAccumulator& error : errors) total.add(error);
  report.total = total.metrics();
  return report;
}

}  // namespace kvant::look
