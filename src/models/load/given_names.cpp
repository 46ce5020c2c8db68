#include "models/load/given_names.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "io/text/quoting.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/glob.hpp"

namespace kvant::models {
namespace {

/// A linear layer of the model.
struct NamedLayer {
  LayerName name;
  bool stays_float;
};

/// Of all blocks, and of the head where a layer is before it.
struct LayerList {
  std::vector<NamedLayer> blocks;
  std::vector<std::string> head;  ///< patterns may name the head itself, which is always kept
};

LayerList layers_of(const Config& config, const PartLoader& parts) {
  LayerList list;
  for (const Stack& stack : parts.stacks()) {
    Block block = empty_block(config, *stack.linears);
    const std::vector<LinearSpec> specs = parts.linears(stack, block);
    for (std::int64_t n = 0; n < stack.layers; ++n) {
      for (const LinearSpec& spec : specs) {
        list.blocks.push_back({parts.name_of(stack.name(n, spec.name)), spec.stays_float});
      }
    }
  }
  list.head.emplace_back(io::find_architecture(config.model_type)->head);
  Model model;
  if (const auto before_head = parts.head_linear(model)) list.head.push_back(before_head->name);
  return list;
}

void check_patterns(const std::vector<std::string>& patterns, const LayerList& layers) {
  for (const std::string& pattern : patterns) {
    const auto matches = [&](const std::string& name) { return io::glob_match(pattern, name); };
    const bool found =
        std::any_of(layers.head.begin(), layers.head.end(), matches) ||
        std::any_of(layers.blocks.begin(), layers.blocks.end(),
                    [&](const NamedLayer& layer) { return matches(layer.name.full); });
    if (found) continue;
    throw RequestError("the pattern \"" + pattern.substr(0, 80) +
                       "\" matches no linear layer (they are named like " +
                       layers.blocks.front().name.full + ")");
  }
}

void check_formats(const LoadOptions& options, const LayerList& layers) {
  std::set<std::string> known;
  std::string example;
  for (const NamedLayer& layer : layers.blocks) {
    if (layer.stays_float) continue;
    known.insert({layer.name.file, layer.name.full});
    example = layer.name.file;
  }
  for (const auto& [name, format] : options.formats) {
    if (known.contains(name)) continue;
    throw RequestError("a format is given for \"" + name.substr(0, 200) +
                       "\", which is no linear layer that is quantized here (they are named like " +
                       example + "): the plan is of another model");
  }
}

/// The part itself, or what it is in.
bool is_in(const std::string& part, const std::string& name) {
  return name.empty() || part == name || part.starts_with(name + ".");
}

/// Maps name all of a model, as accelerate writes them: parts without weights too.
bool has_no_weights(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return last.find("drop") != std::string::npos || last == "rotary_emb" || last == "act" ||
         last == "act_fn" || last == "activation" || last == "activation_fn";
}

/// What a tensor belongs to: without ".weight", ".bias", and what follows there.
std::string owner_of(const std::string& tensor) {
  const std::size_t weight = tensor.find(".weight");
  return tensor.substr(0, weight != std::string::npos ? weight : tensor.rfind('.'));
}

void check_map(const LoadOptions& options, const Config& config, const LayerList& layers,
               const WeightSource& source) {
  const std::string prefix(io::find_architecture(config.model_type)->prefix);
  std::vector<std::string> parts = layers.head;
  std::set<std::string> linear;  // as the file has them, where that is not their full name
  for (const NamedLayer& layer : layers.blocks) {
    parts.push_back(layer.name.full);
    if (layer.name.file != layer.name.full) linear.insert(layer.name.file);
  }
  for (const std::string& tensor : source.names()) {
    const std::string owner = owner_of(tensor);
    if (linear.contains(owner)) continue;
    parts.push_back(owner);
    parts.push_back(prefix + owner);  // base models are saved without it
  }
  for (const auto& [name, on_device] : options.offload.map) {
    const std::string& key = name;
    const auto has = [&](const std::string& part) { return is_in(part, key); };
    if (std::any_of(parts.begin(), parts.end(), has)) continue;
    if (has_no_weights(key)) {
      const std::string whole =
          key.substr(0, key.find('.') == std::string::npos ? 0 : key.rfind('.'));
      const auto holds = [&](const std::string& part) { return is_in(part, whole); };
      if (std::any_of(parts.begin(), parts.end(), holds)) continue;
    }
    throw RequestError("the device map names " + io::in_quotes(key) +
                       ", which is no part of the model (they are named like " +
                       layers.blocks.front().name.full + ")");
  }
}

}  // namespace

void check_given_names(const LoadOptions& options, const Config& config, const PartLoader& parts,
                       const WeightSource& source) {
  const Offload& offload = options.offload;
  if (options.skip.empty() && options.formats.empty() && offload.host.empty() &&
      offload.map.empty()) {
    return;
  }
  const LayerList layers = layers_of(config, parts);
  check_patterns(options.skip, layers);
  check_patterns(offload.host, layers);
  check_formats(options, layers);
  if (!offload.map.empty()) check_map(options, config, layers, source);
}

}  // namespace kvant::models
