// Device maps as accelerate writes them.

#include "io/json/json_tree.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/models/offload.hpp"

namespace kvant::models {

std::map<std::string, bool> read_device_map(const std::filesystem::path& file) {
  const nlohmann::json map = io::read_json_tree(file);
  std::map<std::string, bool> result;
  for (const auto& [name, place] : map.items()) {
    const bool on_device = place == 0 || place == "cuda" || place == "cuda:0";
    if (!on_device && place != "cpu") {
      throw io::FormatError(io::FormatErrorKind::structure,
                            file.string() + ": " + io::in_quotes(name) + " is on " +
                                place.dump().substr(0, 40) + "; there are \"cpu\", \"cuda\" and 0");
    }
    result[name] = on_device;
  }
  return result;
}

}  // namespace kvant::models
