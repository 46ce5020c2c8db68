// Plans as files, and as what a checkpoint can hold of them.

#include <nlohmann/json.hpp>
#include <set>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/models/layer_format.hpp"
#include "kvant/models/plan.hpp"

namespace kvant::models {
namespace {

constexpr const char* kMark = "kvant_format_plan";
constexpr int kVersion = 1;
constexpr std::uint64_t kLargestPlan = 64u << 20;  // experts are many, and their names long

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorCode::invalid_file, file.string() + ": " + what);
}

}  // namespace

std::string to_json(const FormatPlan& plan) {
  nlohmann::ordered_json json;
  json[kMark] = kVersion;
  if (plan.arithmetic) json["arithmetic"] = arithmetic_name(*plan.arithmetic);
  if (!plan.notes.empty()) json["notes"] = plan.notes;
  json["layers"] = nlohmann::ordered_json::object();
  for (const auto& [name, format] : plan.layers) json["layers"][name] = to_string(format);
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

FormatPlan read_format_plan(const std::filesystem::path& file) {
  const nlohmann::json json = io::read_json_tree(file, kLargestPlan);
  const auto mark = json.find(kMark);
  if (mark == json.end() || *mark != kVersion) {
    refuse(file,
           "is no plan of formats (kvant select MODEL --measure TEXT --plan FILE writes one)");
  }
  FormatPlan plan;
  if (const auto it = json.find("arithmetic"); it != json.end()) {
    if (it->is_string()) plan.arithmetic = arithmetic_from_name(it->get<std::string>());
    if (!plan.arithmetic) refuse(file, "\"arithmetic\" is not exact, int8 or int15");
  }
  if (const auto it = json.find("notes"); it != json.end() && it->is_object()) {
    for (const auto& [key, value] : it->items()) {
      if (value.is_string()) plan.notes[key] = value.get<std::string>();
    }
  }
  const auto layers = json.find("layers");
  if (layers == json.end() || !layers->is_object() || layers->empty()) {
    refuse(file, "\"layers\" is not an object with a format for each layer");
  }
  for (const auto& [name, value] : layers->items()) {
    if (name.find_first_of("*?[") != std::string::npos) {
      refuse(file, "layer \"" + name.substr(0, 200) +
                       "\" is a pattern; a plan names each layer by itself");
    }
    const auto format =
        value.is_string() ? layer_format_from_name(value.get<std::string>()) : std::nullopt;
    if (!format) {
      refuse(file, "layer \"" + name.substr(0, 200) + "\" is to be " + value.dump().substr(0, 60) +
                       ", which is no format like int4:64, nf4:64, int8-group:128 or fp16");
    }
    plan.layers[name] = *format;
  }
  return plan;
}

io::QuantizeCheckpointOptions to_quantize_options(const FormatPlan& plan) {
  std::set<LayerFormat> quantized;
  for (const auto& [name, format] : plan.layers) {
    if (!describe(format.format).is_float()) quantized.insert(format);
  }
  if (quantized.size() > 1) {
    std::string names;
    for (const LayerFormat& format : quantized) {
      names += (names.empty() ? "" : ", ") + to_string(format);
    }
    throw Error(ErrorCode::unsupported,
                "the plan has layers in " + names +
                    "; config.json describes one quantization for all layers of a checkpoint. "
                    "kvant run MODEL --plan FILE runs such a mix; a checkpoint holds one quantized "
                    "format beside floats (kvant select --measure TEXT --formats " +
                    to_string(*quantized.begin()) + ",fp16)");
  }
  io::QuantizeCheckpointOptions options;
  options.scheme = io::WeightScheme::keep;
  options.nested = false;  // nf4, fp4: the scales that kvant run has
  if (!quantized.empty()) options.block = quantized.begin()->group;
  for (const auto& [name, format] : plan.layers) {
    const bool stays = format.format == WeightFormat::float32;
    const bool int8 = format.format == WeightFormat::int8_row;
    options.rules.push_back({name, stays  ? io::WeightScheme::keep
                                   : int8 ? io::WeightScheme::llm_int8
                                          : io::WeightScheme(format.format)});
  }
  return options;
}

}  // namespace kvant::models
