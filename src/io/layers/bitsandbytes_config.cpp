#include "io/layers/bitsandbytes_config.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/text/quoting.hpp"

namespace kvant::io {

bool loads_in(int bits, const nlohmann::json& section, const ConfigErrors& error) {
  const std::string name = "load_in_" + std::to_string(bits) + "bit";
  for (const std::string& key : {name, "_" + name}) {
    const auto it = section.find(key);
    if (it == section.end()) continue;
    if (it->is_boolean()) return it->get<bool>();
    error("quantization_config." + key + " is neither true nor false");
  }
  return false;
}

void check_bitsandbytes_layers(int bits, const nlohmann::json& section,
                               const std::set<std::string>& layers, const ConfigErrors& error) {
  const std::string key = "load_in_" + std::to_string(bits) + "bit";
  const std::string form = std::to_string(bits) + "-bit";
  const bool said = loads_in(bits, section, error);
  if (said && layers.empty()) {
    error(key + " is true, but no layer is stored in " + form + " form");
  } else if (!said && !layers.empty()) {
    error(std::to_string(layers.size()) + (layers.size() == 1 ? " layer is" : " layers are") +
          " stored in " + form + " form (" + in_quotes(*layers.begin()) + "), but " + key +
          " is not true");
  }
}

}  // namespace kvant::io
