// Part of the program where kvant::models is.
#if KVANT_PROGRAM_MODELS
#include "device_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "command_line.hpp"
#include "devices.hpp"
#include "kvant/error.hpp"
#include "ranks.hpp"

namespace kvant::program {
namespace {

void add_patterns(CLI::App& app, const char* name, std::vector<std::string>& patterns,
                  const char* text) {
  app.add_option(name, patterns, text)
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

/// "cpu, cuda (not here: no CUDA device), auto"
std::string device_names() {
  std::string names = "cpu";
  for (const IsaInfo& device : device_sets()) {
    names.append(", ").append(device.name);
    if (!device.available) names.append(" (not here: no ").append(device.missing).append(")");
  }
  return names + ", auto";
}

/// Null: the CPU.
const KernelTable* find_device(const std::string& word) {
  if (word == "cpu") return nullptr;
  const std::vector<IsaInfo> devices = device_sets();
  for (const IsaInfo& device : devices) {
    if (device.available && (word == "auto" || word == device.name)) {
      return &device_kernels(device.name);
    }
  }
  if (word == "auto") return nullptr;
  if (word != "cuda" && std::none_of(devices.begin(), devices.end(),
                                     [&](const IsaInfo& each) { return each.name == word; })) {
    throw UsageError("--device " + word.substr(0, 60) + " is not one of " + device_names());
  }
  throw Error(ErrorCode::unavailable,
              "--device " + word +
                  (devices.empty() ? ": this kvant was built without CUDA (KVANT_CUDA)"
                                   : ": there is no such device on this machine") +
                  "; there are: " + device_names());
}

nlohmann::ordered_json counted_json(const models::Placement& placement, bool on_device) {
  return {{"layers", placement.count(on_device)}, {"bytes", placement.bytes(on_device)}};
}

std::string counted_text(const models::Placement& placement, bool on_device) {
  const std::int64_t count = placement.count(on_device);
  return std::to_string(count) + (count == 1 ? " layer, " : " layers, ") +
         size_text(placement.bytes(on_device));
}

/// Reasons to be on the CPU with the number of layers, in the order in which they came up.
std::vector<std::pair<std::string, std::int64_t>> reasons_of(const models::Placement& placement) {
  std::vector<std::pair<std::string, std::int64_t>> reasons;
  for (const models::LayerPlace& layer : placement.layers) {
    if (layer.on_device) continue;
    const auto known = std::find_if(reasons.begin(), reasons.end(),
                                    [&](const auto& each) { return each.first == layer.reason; });
    if (known == reasons.end()) {
      reasons.emplace_back(layer.reason, 1);
    } else {
      ++known->second;
    }
  }
  return reasons;
}

std::string to_text(const models::Placement& placement) {
  std::string text = "[" + placement.device + ": " + counted_text(placement, true) + ", and " +
                     size_text(placement.call_bytes) + " for calls, of " +
                     size_text(placement.limit) + " that may be used (" +
                     size_text(placement.free_bytes) +
                     " free)]\n[CPU: " + counted_text(placement, false);
  const char* before = ": ";
  for (const auto& [reason, count] : reasons_of(placement)) {
    text += std::exchange(before, ", ") + std::to_string(count) + " " + reason;
  }
  return text + "]\n";
}

nlohmann::ordered_json to_json(const models::Placement& placement) {
  nlohmann::ordered_json reasons = nlohmann::ordered_json::object();
  for (const auto& [reason, count] : reasons_of(placement)) reasons[reason] = count;
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const models::LayerPlace& layer : placement.layers) {
    nlohmann::ordered_json entry = {{"name", layer.name},
                                    {"device", layer.on_device ? placement.device : "cpu"},
                                    {"bytes", layer.bytes}};
    if (!layer.on_device) entry["reason"] = layer.reason;
    layers.push_back(std::move(entry));
  }
  return {{"name", placement.device},
          {"free_bytes", placement.free_bytes},
          {"limit_bytes", placement.limit},
          {"call_bytes", placement.call_bytes},
          {"on_device", counted_json(placement, true)},
          {"on_cpu", counted_json(placement, false)},
          {"reasons", std::move(reasons)},
          {"layers", std::move(layers)}};
}

}  // namespace

void add_device_options(CLI::App& app, DeviceWords& words) {
  app.add_option(
         "--device", words.device,
         "where linear layers are multiplied: cpu (default), cuda (in builds with CUDA), or\n"
         "auto: on a device if there is one. All else stays on the CPU, and so do layers that\n"
         "do not fit; integer schemes give the same bits anywhere")
      ->type_name("NAME");
  app.add_option("--device-memory", words.memory,
                 "what may be used of it, e.g. 6GB, calls included (default: most of what is free)")
      ->type_name("SIZE");
  add_patterns(app, "--cpu", words.cpu,
               "keep linear layers on the CPU whose full name matches; may be repeated");
  add_patterns(app, "--cpu-fp32", words.cpu_fp32,
               "the same, and in float as with --skip; may be repeated");
  app.add_option(
         "--device-map", words.map,
         "JSON, as accelerate writes it: \"cuda\", 0 or \"cpu\" by the name of a layer or of\n"
         "what it is a part of, e.g. {\"model.layers.0\": \"cuda\", \"\": \"cpu\"}")
      ->type_name("FILE");
}

models::Offload offload_of(const DeviceWords& words, std::vector<std::string>& skip) {
  models::Offload offload;
  offload.device = find_device(words.device);
  if (words.device == "cpu") {
    for (const auto& [flag, given] : {std::pair("--device-memory", !words.memory.empty()),
                                      {"--device-map", !words.map.empty()},
                                      {"--cpu", !words.cpu.empty()},
                                      {"--cpu-fp32", !words.cpu_fp32.empty()}}) {
      if (given) throw UsageError(std::string(flag) + " needs --device cuda or --device auto");
    }
  }
  if (!words.memory.empty()) offload.limit = parse_size(words.memory, "--device-memory");
  if (!words.map.empty()) offload.map = models::read_device_map(words.map);
  offload.host = words.cpu;
  offload.host.insert(offload.host.end(), words.cpu_fp32.begin(), words.cpu_fp32.end());
  skip.insert(skip.end(), words.cpu_fp32.begin(), words.cpu_fp32.end());
  return offload;
}

std::string share_devices(models::Offload& offload) {
  if (offload.device == nullptr) return connect_devices(nullptr, {}).way;
  const Memory& memory = *offload.device->memory;
  const int devices = std::max(1, memory.devices());
  const int own = rank_on_machine() % devices;
  std::array<char, kLongestDeviceName + 1> name{};
  if (!memory.choose(own) || !memory.identify(name.data(), static_cast<int>(name.size()))) {
    const char* const why = memory.wait(nullptr);
    throw Error(ErrorCode::device_failed,
                std::string(memory.space) + ": device " + std::to_string(own) + " of " +
                    std::to_string(devices) + ": " + (why != nullptr ? why : "refused"));
  }
  const DeviceSharing sharing = connect_devices(&memory, name.data());
  if (sharing.ranks > 1 && !offload.limit) {
    constexpr std::uint64_t kShareLeft = 32;  // as where one process has it
    const std::uint64_t part = memory.available() / static_cast<std::uint64_t>(sharing.ranks);
    offload.limit = part - part / kShareLeft;
  }
  return sharing.way;
}

nlohmann::ordered_json report_device(const models::Placement* placement,
                                     const std::string& between_devices, bool quiet) {
  std::string text =
      placement != nullptr ? to_text(*placement) : "[no device here: all on the CPU]\n";
  if (job_ranks() != nullptr) text = "[of rank 0:]\n" + text;
  nlohmann::ordered_json report = {{"name", "cpu"}};
  if (placement != nullptr) report = to_json(*placement);
  if (!between_devices.empty()) {
    text += "[between the ranks' devices: " + between_devices + "]\n";
    report["between_devices"] = between_devices;
  }
  if (!quiet) std::fprintf(stderr, "%s", text.c_str());
  return report;
}

}  // namespace kvant::program
#endif
