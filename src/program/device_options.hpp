#pragma once

// The options of kvant run about devices, and what it says of them.

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/models/offload.hpp"

namespace kvant::program {

/// The words as they were given.
struct DeviceWords {
  std::string device = "cpu";
  std::string memory;
  std::string map;
  std::vector<std::string> cpu;
  std::vector<std::string> cpu_fp32;
};

void add_device_options(CLI::App& app, DeviceWords& words);

/// What they ask for; no device: all on the CPU.
/// @param skip  the layers that stay in float, which those of --cpu-fp32 join
/// @throws UsageError; Error unavailable: there is no such device here; io, invalid_file: the map
[[nodiscard]] models::Offload offload_of(const DeviceWords& words, std::vector<std::string>& skip);

/// A line for the device and one for the CPU: layers, bytes, and why layers are there.
[[nodiscard]] std::string to_text(const models::Placement& placement);
/// The same with a list of all layers.
[[nodiscard]] nlohmann::ordered_json to_json(const models::Placement& placement);

}  // namespace kvant::program
