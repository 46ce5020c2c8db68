#include "kvant/look/inspect.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "io/checkpoint/foreign_formats.hpp"
#include "io/layers/stored_format.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

/// How many layers, elements and bytes share a scheme.
struct Group {
  std::size_t layers = 0;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;
};

std::map<std::string, Group> group_layers(const std::vector<io::StoredLayer>& layers) {
  std::map<std::string, Group> groups;
  for (const io::StoredLayer& layer : layers) {
    Group& group = groups[std::string(layer.scheme())];
    ++group.layers;
    group.elements += static_cast<std::uint64_t>(layer.elements());
    group.bytes += layer.bytes;
  }
  return groups;
}

std::uint64_t count_elements(const std::vector<io::ModelTensor>& tensors,
                             const std::vector<io::StoredLayer>& layers) {
  std::set<std::string> linear;
  for (const io::StoredLayer& layer : layers) linear.insert(layer.tensor);
  std::uint64_t count = 0;
  for (const io::ModelTensor& tensor : tensors) {
    if (tensor.role != io::TensorRole::parameter || linear.contains(tensor.name)) continue;
    // Bytes passed the reader, so bits do not overflow by more than this division takes back.
    const io::Footprint bytes = io::footprint(std::span(&tensor, 1));
    const auto bits = static_cast<std::uint64_t>(describe(tensor.dtype).bits);
    count += bits >= 8 ? bytes.total() / (bits / 8) : bytes.total() * 8 / bits;
  }
  for (const io::StoredLayer& layer : layers) count += static_cast<std::uint64_t>(layer.elements());
  return count;
}

/// What kvant calibrate writes is no model: its second moments are square, and no weights.
bool is_statistics(const CheckpointContents& contents) {
  const auto format = contents.metadata.find("format");
  return format != contents.metadata.end() && format->second.starts_with("kvant-statistics");
}

nlohmann::ordered_json footprint_json(const io::Footprint& f) {
  return {{"parameters", f.parameters},
          {"scales", f.scales},
          {"buffers", f.buffers},
          {"total", f.total()}};
}

}  // namespace

CheckpointContents inspect_checkpoint(const std::filesystem::path& path) {
  const io::Checkpoint checkpoint(path, {.allow_missing = true});
  CheckpointContents contents;
  contents.path = path.string();
  const io::ModelHints hints = io::model_hints_of(path);
  contents.model_type = hints.model_type;
  for (const auto& file : checkpoint.files()) {
    contents.files.push_back(file.filename().string());
    std::error_code ignored;
    const auto size = std::filesystem::file_size(file, ignored);
    if (!ignored) contents.file_bytes += size;
  }
  for (const io::TensorInfo* info : checkpoint.tensors()) contents.tensors.push_back(*info);
  std::sort(contents.tensors.begin(), contents.tensors.end(),
            [](const io::TensorInfo& a, const io::TensorInfo& b) {
              return io::natural_less(a.name, b.name);
            });
  contents.metadata = checkpoint.metadata();
  contents.warnings = checkpoint.warnings();
  if (is_statistics(contents)) {
    if (const auto type = contents.metadata.find("model_type"); type != contents.metadata.end()) {
      contents.model_type = type->second;
    }
    return contents;
  }
  contents.layers = io::find_linear_layers(checkpoint, hints);
  const std::vector<io::ModelTensor> tensors = io::model_tensors(checkpoint, hints);
  contents.elements = count_elements(tensors, contents.layers);
  contents.stored = io::footprint(tensors);
  contents.float32 = io::footprint(tensors, {.cast = DType::float32});
  contents.bfloat16 = io::footprint(tensors, {.cast = DType::bfloat16});
  for (const WeightFormatInfo& format : weight_format_table()) {
    if (io::form_writing(format.format) == nullptr) continue;
    contents.quantized.emplace_back(format.format,
                                    io::footprint(tensors, {.weights = format.format}));
  }
  if (!hints.problem.empty()) {
    contents.warnings.push_back(
        {io::WarningKind::config, "config.json was not used: " + hints.problem});
  }
  if (const auto method = io::foreign_quantization(hints, checkpoint.tensors())) {
    contents.warnings.push_back(
        {io::WarningKind::config,
         "quantized by " + *method +
             ", which kvant does not know: its layers were not recognized"});
  }
  return contents;
}

std::string to_text(const CheckpointContents& contents) {
  std::map<std::string_view, const io::StoredLayer*> linear;
  for (const io::StoredLayer& layer : contents.layers) linear.emplace(layer.tensor, &layer);
  TextTable table({{"tensor"}, {"dtype"}, {"shape"}, {"bytes", Align::right}, {"linear layer"}});
  for (const io::TensorInfo& tensor : contents.tensors) {
    const std::string_view name = tensor.name;
    std::string scheme;
    if (const auto it = linear.find(name); it != linear.end()) {
      scheme = std::string(it->second->scheme());
      if (it->second->transposed) scheme += ", transposed";
      if (it->second->stays_float) scheme += ", never quantized";
    }
    table.add({shown_name(name), std::string(describe(tensor.dtype).safetensors),
               shape_text(tensor.shape), bytes_text(tensor.bytes), scheme});
  }
  std::string text = table.text() + "\n";

  text += shown_name(contents.path) + ": " + counted(contents.tensors.size(), "tensor") + " in " +
          counted(contents.files.size(), "file") + " of " + bytes_text(contents.file_bytes) + ", " +
          (is_statistics(contents) ? "statistics of activations"
                                   : std::to_string(contents.elements) + " parameters") +
          (contents.model_type.empty() ? "" : ", model type " + shown_name(contents.model_type)) +
          "\n";
  if (is_statistics(contents)) return text;
  if (!contents.layers.empty()) {
    TextTable groups({{"linear layers"},
                      {"count", Align::right},
                      {"parameters", Align::right},
                      {"bytes", Align::right},
                      {"bits per weight", Align::right}});
    for (const auto& [scheme, group] : group_layers(contents.layers)) {
      const double bits =
          8.0 * static_cast<double>(group.bytes) / static_cast<double>(group.elements);
      groups.add({scheme, std::to_string(group.layers), std::to_string(group.elements),
                  bytes_text(group.bytes), number_text(bits, 4)});
    }
    text += "\n" + groups.text();
  }
  TextTable footprints({{"footprint"},
                        {"parameters", Align::right},
                        {"scales", Align::right},
                        {"buffers", Align::right},
                        {"total", Align::right}});
  const auto add = [&](const std::string& name, const io::Footprint& f) {
    footprints.add({name, bytes_text(f.parameters), bytes_text(f.scales), bytes_text(f.buffers),
                    bytes_text(f.total())});
  };
  add("as stored", contents.stored);
  add("floats in fp32", contents.float32);
  add("floats in bf16, fp16", contents.bfloat16);
  for (const auto& [format, f] : contents.quantized) {
    add("linear layers in " + std::string(to_string(format)), f);
  }
  text += "\n" + footprints.text();
  for (const io::Warning& warning : contents.warnings) text += "warning: " + warning.text + "\n";
  return text;
}

std::string to_json(const CheckpointContents& contents) {
  nlohmann::ordered_json json;
  json["path"] = contents.path;
  json["model_type"] = contents.model_type;
  json["files"] = contents.files;
  json["file_bytes"] = contents.file_bytes;
  json["parameters"] = contents.elements;
  json["metadata"] = contents.metadata;
  json["footprint"] = {{"stored", footprint_json(contents.stored)},
                       {"fp32", footprint_json(contents.float32)},
                       {"bf16", footprint_json(contents.bfloat16)}};
  for (const auto& [format, f] : contents.quantized) {
    json["footprint"][std::string(to_string(format))] = footprint_json(f);
  }
  json["linear_layers"] = nlohmann::ordered_json::array();
  for (const io::StoredLayer& layer : contents.layers) {
    json["linear_layers"].push_back({{"name", layer.name},
                                     {"scheme", layer.scheme()},
                                     {"outputs", layer.outputs},
                                     {"inputs", layer.inputs},
                                     {"transposed", layer.transposed},
                                     {"kept", layer.stays_float},
                                     {"bytes", layer.bytes}});
  }
  json["tensors"] = nlohmann::ordered_json::array();
  for (const io::TensorInfo& tensor : contents.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"dtype", describe(tensor.dtype).safetensors},
                               {"shape", tensor.shape},
                               {"bytes", tensor.bytes}});
  }
  json["warnings"] = nlohmann::ordered_json::array();
  for (const io::Warning& warning : contents.warnings) json["warnings"].push_back(warning.text);
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
