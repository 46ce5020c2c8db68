#include "io/layers/compressed_tensors_config.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "io/layers/packed_groups.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

constexpr std::array<std::string_view, 6> kFormats = {"pack-quantized",  "int-quantized",
                                                      "float-quantized", "mxfp4-pack-quantized",
                                                      "naive-quantized", "mixed-precision"};
constexpr std::int64_t kMost = std::int64_t{1} << 31;

std::string shown(const nlohmann::json& value) {
  return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60);
}

std::int64_t number_in(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() ? 0 : group_size_in(*it);
}

/// Whether one of a group's targets can mean the layer: its name, or that of a class or expression.
bool targets(const nlohmann::json& group, const std::string& layer, bool by_name) {
  const auto it = group.find("targets");
  if (it == group.end() || !it->is_array()) return false;
  return std::any_of(it->begin(), it->end(), [&](const nlohmann::json& target) {
    if (!target.is_string()) return false;
    const auto& name = target.get_ref<const std::string&>();
    return by_name ? name == layer : name.find('.') == std::string::npos || name.starts_with("re:");
  });
}

/// [rows, columns], or "128x128" as early files have it; zeros for anything else.
SaidBlocks blocks_in(const nlohmann::json& weights) {
  const auto it = weights.find("block_structure");
  if (it == weights.end()) return {};
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  if (it->is_string()) {
    const auto& text = it->get_ref<const std::string&>();
    const char* const end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, rows);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != 'x') return {};
    if (std::from_chars(first.ptr + 1, end, cols).ptr != end) return {};
  } else if (it->is_array() && it->size() == 2 && (*it)[0].is_number_unsigned() &&
             (*it)[1].is_number_unsigned()) {
    rows = (*it)[0].get<std::uint64_t>();
    cols = (*it)[1].get<std::uint64_t>();
  }
  const auto most = static_cast<std::uint64_t>(kMost);
  if (rows == 0 || cols == 0 || rows > most || cols > most) return {};
  return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols)};
}

/// What `dynamic` may be.
bool is_flag(const nlohmann::json& value) {
  return value.is_boolean() || value == "local";
}

/// `dynamic` is a flag, or "local" where scales of groups are of the token and one for all is not.
InputScales inputs_in(const nlohmann::json& group) {
  const auto inputs = group.find("input_activations");
  if (inputs == group.end()) return InputScales::unsaid;
  if (!inputs->is_object()) return InputScales::at_run;
  const auto dynamic = inputs->find("dynamic");
  if (dynamic != inputs->end() && *dynamic != false) {
    return is_flag(*dynamic) ? InputScales::at_run : InputScales::other;
  }
  const auto is = [&](const char* key, const nlohmann::json& wanted) {
    const auto it = inputs->find(key);
    return it == inputs->end() || it->is_null() || *it == wanted;
  };
  const bool one_scale = is("num_bits", 8) && is("type", "int") && is("strategy", "tensor");
  return one_scale ? InputScales::in_file : InputScales::other;
}

CompressedWeights read_layer(const nlohmann::json& group, const nlohmann::json& weights) {
  CompressedWeights result;
  result.inputs = inputs_in(group);
  result.bits = std::max<std::int64_t>(0, number_in(weights, "num_bits"));
  result.group_size = number_in(weights, "group_size");
  result.blocks = blocks_in(weights);
  if (result.blocks.cols == 0 && result.group_size > 0) result.blocks.cols = result.group_size;
  return result;
}

void check_weights(const std::string& name, const nlohmann::json& weights,
                   const ConfigErrors& error) {
  const std::string where = "config_groups." + name + ".weights";
  if (!weights.is_object()) return error(where + " is " + shown(weights) + ", not an object");
  if (const auto it = weights.find("group_size");
      it != weights.end() && !it->is_null() && group_size_in(*it) == 0) {
    error(where + ".group_size is " + shown(*it) + ", neither -1 nor above 0 (and at most 2^31)");
  }
  const std::string type = weights.value("type", nlohmann::json("int")).dump();
  const std::int64_t bits = number_in(weights, "num_bits");
  const bool integer = type == "\"int\"" && (bits == 2 || bits == 3 || bits == 4 || bits == 8);
  const bool mxfp4 = bits == 4 && number_in(weights, "group_size") == 32;
  if (!integer && !(type == "\"float\"" && (bits == 8 || mxfp4))) {
    error(where + ": " + shown(weights.value("type", nlohmann::json())) + " of " +
          shown(weights.value("num_bits", nlohmann::json())) +
          " bits is not read; int of 2, 3, 4 and 8 bits and float of 8 are, and of 4 in groups of "
          "32");
  }
}

void check_inputs(const std::string& name, const nlohmann::json& inputs,
                  const ConfigErrors& error) {
  const std::string where = "config_groups." + name + ".input_activations";
  if (!inputs.is_object()) return error(where + " is " + shown(inputs) + ", not an object");
  const auto dynamic = inputs.find("dynamic");
  if (dynamic == inputs.end() || is_flag(*dynamic)) return;
  error(where + ".dynamic is " + shown(*dynamic) + ", neither true nor false nor \"local\"");
}

}  // namespace

CompressedWeights compressed_weights_of(const nlohmann::json& section, const std::string& layer) {
  const auto groups = section.is_object() ? section.find("config_groups") : section.end();
  if (!section.is_object() || groups == section.end() || !groups->is_object()) return {};
  for (const bool by_name : {true, false}) {
    std::optional<CompressedWeights> found;
    for (const nlohmann::json& group : *groups) {
      if (!group.is_object() || !targets(group, layer, by_name)) continue;
      const auto weights = group.find("weights");
      if (weights == group.end() || !weights->is_object()) continue;
      const CompressedWeights one = read_layer(group, *weights);
      // Which of several expressions means the layer is not asked; what they agree about counts.
      CompressedWeights both = one;
      if (found && found->inputs != one.inputs) both.inputs = InputScales::unclear;
      if (found) found->inputs = both.inputs;
      if (found && *found != both) return {.inputs = both.inputs};
      found = both;
    }
    if (found) return *found;
  }
  return {};
}

void check_compressed_config(const nlohmann::json& section, const std::set<std::string>& layers,
                             bool packed, const ConfigErrors& error) {
  const auto ignore = section.find("ignore");
  if (ignore != section.end() && ignore->is_array()) {
    for (const nlohmann::json& name : *ignore) {
      if (name.is_string() && layers.contains(name.get<std::string>())) {
        error("ignore names " + in_quotes(name.get<std::string>()) + ", which is stored quantized");
      }
    }
  }
  if (!packed) return;  // the rest is about the whole section, and is said once
  if (ignore != section.end() && !ignore->is_null()) {
    const bool names =
        ignore->is_array() && std::all_of(ignore->begin(), ignore->end(),
                                          [](const auto& name) { return name.is_string(); });
    if (!names) error("ignore is " + shown(*ignore) + ", not a list of names");
  }
  const nlohmann::json format = section.value("format", nlohmann::json("dense"));
  const bool known = format.is_string() && std::find(kFormats.begin(), kFormats.end(),
                                                     format.get<std::string>()) != kFormats.end();
  if (!known) {
    error("format is " + shown(format) +
          "; pack-quantized, int-quantized, float-quantized, mxfp4-pack-quantized, naive-quantized "
          "and mixed-precision are read");
  }
  if (const auto sparse = section.find("sparsity_config");
      sparse != section.end() && sparse->is_object() && !sparse->empty() &&
      sparse->value("format", nlohmann::json("dense")) != "dense") {
    error("sparsity_config: weights with zeros left out (" +
          shown(sparse->value("format", nlohmann::json())) + ") are not read");
  }
  const auto groups = section.find("config_groups");
  if (groups == section.end() || !groups->is_object() || groups->empty()) {
    return error("config_groups is missing, or not an object of groups");
  }
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object()) {
      error("config_groups." + name.substr(0, 40) + " is " + shown(group) + ", not an object");
      continue;
    }
    for (const auto& [key, check] :
         {std::pair("weights", &check_weights), {"input_activations", &check_inputs}}) {
      const auto part = group.find(key);
      if (part != group.end() && !part->is_null()) check(name.substr(0, 40), *part, error);
    }
  }
}

nlohmann::ordered_json compressed_config(const char* format, nlohmann::ordered_json weights,
                                         nlohmann::ordered_json inputs,
                                         const std::vector<std::string>& ignored) {
  nlohmann::ordered_json group;
  group["format"] = format;
  group["input_activations"] = std::move(inputs);
  group["output_activations"] = nullptr;
  group["targets"] = {"Linear"};
  group["weights"] = std::move(weights);
  nlohmann::ordered_json config;
  config["config_groups"]["group_0"] = std::move(group);
  config["format"] = format;
  config["ignore"] = ignored;
  config["kv_cache_scheme"] = nullptr;
  config["quant_method"] = "compressed-tensors";
  config["quantization_status"] = "compressed";
  return config;
}

}  // namespace kvant::io
