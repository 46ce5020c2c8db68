#pragma once

// The options of kvant run about devices, and what it says of them.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_line.hpp"
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

/// Of several ranks on a machine each takes a device of its own, if there are so many; what they
/// hold goes from one to the other by itself then. Ranks that share one take an even part of its
/// memory each (offload.limit), unless a limit is given. All ranks call it, before anything is
/// there.
/// @return how it goes, in words for report_device
/// @throws Error device_failed; as Ranks
[[nodiscard]] std::string share_devices(models::Offload& offload);

/// Where the layers are, for --json: devices, bytes, reasons, and a list of all layers. Unless
/// quiet it is said in two lines on standard error.
/// @param placement  null: --device auto found none; @param between_devices  of share_devices
[[nodiscard]] nlohmann::ordered_json report_device(const models::Placement* placement,
                                                   const std::string& between_devices, bool quiet);

}  // namespace kvant::program
