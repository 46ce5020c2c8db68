#include "models/load/layer_placer.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::models {
namespace {

constexpr std::uint64_t kSectionBytes = 256;  // what parts of a layer are rounded up to
constexpr std::uint64_t kCallSlack = 16 * 1024;

/// Of what is free, where nobody sets a limit: the device hands memory out in larger pieces than it
/// is asked for, and others live there too.
constexpr std::uint64_t kShareLeft = 32;

std::uint64_t unsigned_of(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}

/// Of all layers, and of all groups of layers with one input.
std::int64_t widest_input(const Config& config) {
  return std::max({config.n_embd, config.q_dim(), config.n_inner});
}
std::int64_t widest_output(const Config& config) {
  return std::max({config.n_embd, config.qkv_dim(), config.n_inner * (config.gated_mlp ? 2 : 1)});
}

/// What a device map says of a layer.
bool on_device_by(const std::map<std::string, bool>& map, std::string name) {
  while (!map.empty()) {
    const auto found = map.find(name);
    if (found != map.end()) return found->second;
    if (name.empty()) break;
    const std::size_t dot = name.rfind('.');
    name.resize(dot == std::string::npos ? 0 : dot);
  }
  return true;
}

}  // namespace

std::uint64_t LayerNeeds::bytes_on(const KernelTable& kernels) const {
  const WeightFormatInfo& info = describe(format);
  if (kernels.gemm_for(format).gemm == nullptr) return 0;
  const WeightLayout& layout = kernels.gemm_for(format).layout;
  const std::uint64_t n = unsigned_of(layout.padded_n(outputs));
  const std::uint64_t codes =
      (n * unsigned_of(layout.padded_k(inputs)) * unsigned_of(info.bits) + 7) / 8;
  const std::uint64_t scales =
      unsigned_of(info.scales(layout.padded_n(outputs), inputs, block != 0 ? block : info.block));
  const std::uint64_t scale_bytes = info.zero_points ? 5 : 4;
  std::uint64_t bytes = codes + scales * scale_bytes + 4 * kSectionBytes;
  if (format == WeightFormat::int8_row) bytes += n * sizeof(float);  // absmax
  if (bias) bytes += n * sizeof(float);
  if (kept_columns > 0) {
    const std::uint64_t kept = unsigned_of(kept_columns);
    bytes += kept * (n * 2 + sizeof(std::int64_t)) + unsigned_of(inputs) * 2 + kSectionBytes;
  }
  return bytes;
}

std::uint64_t estimated_call_bytes(const Config& config, std::int64_t rows, bool between_devices) {
  const std::uint64_t inputs = unsigned_of(widest_input(config));
  const std::uint64_t outputs = unsigned_of(widest_output(config));
  // x, its codes (as wide as floats), and a column in sixteen kept; results; scales of rows.
  std::uint64_t row = 4 * inputs + 4 * (inputs + 128) + inputs / 4 + 4 * outputs + 16;
  if (between_devices) {
    // Layers whose input is split: x whole, half of y, and where either is gathered.
    const std::uint64_t width = unsigned_of(config.n_embd);
    row += 4 * (inputs + width / 2 + (std::max(inputs, width) * 3 + 1) / 2);
  }
  return unsigned_of(rows) * row + 16 * inputs + 8 * outputs + kCallSlack;
}

LayerPlacer::LayerPlacer(const Config& config, const Offload& offload, const Ranks* ranks)
    : offload_(offload) {
  if (offload.device == nullptr) return;
  device_ = std::make_shared<Device>(*offload.device);
  placement_ = std::make_shared<Placement>();
  placement_->device = offload.device->name;
  placement_->free_bytes = device_->context().memory()->available();
  const std::uint64_t free_bytes = placement_->free_bytes;
  placement_->limit =
      offload.limit ? std::min(*offload.limit, free_bytes) : free_bytes - free_bytes / kShareLeft;
  placement_->call_bytes = estimated_call_bytes(
      config, offload.rows, ranks != nullptr && ranks->size() > 1 && ranks->devices_connected());
  if (placement_->call_bytes >= placement_->limit) return;  // no layer will fit
  device_->reserve(offload.rows, widest_input(config), widest_output(config));
}

std::string LayerPlacer::reason_to_stay(const std::string& name, const LayerNeeds& needs,
                                        std::uint64_t bytes) const {
  for (const std::string& pattern : offload_.host) {
    if (io::glob_match(pattern, name)) return "asked for";
  }
  if (!on_device_by(offload_.map, name)) return "asked for";
  if (offload_.device->gemm_for(needs.format).gemm == nullptr) {
    return "the device multiplies no " + std::string(to_string(needs.format));
  }
  if (needs.arithmetic == Arithmetic::int15 && describe(needs.format).has_integer_products()) {
    return "int15 arithmetic is the CPU's";
  }
  const auto refused = refused_.find({needs.format, needs.arithmetic});
  if (refused != refused_.end()) return refused->second;
  const std::uint64_t calls = placement_->call_bytes;
  const std::uint64_t calls_to_come = calls - std::min<std::uint64_t>(calls, device_->call_bytes());
  if (calls + used_ + bytes > placement_->limit ||
      calls_to_come + bytes > device_->context().memory()->available()) {
    return "no room";
  }
  return {};
}

std::unique_ptr<LinearLayer> LayerPlacer::try_device(const LayerNeeds& needs, const Make& make,
                                                     bool round_to_bf16, LayerPlace& place) {
  try {
    Linear layer = make(device_->context());
    if (layer.runs_on(device_->context())) {
      place.on_device = true;
      place.bytes = layer.memory_footprint();
      used_ += place.bytes;
      return std::make_unique<DeviceLinear>(device_, std::move(layer), round_to_bf16);
    }
    place.reason = "the device does not multiply " + std::string(to_string(needs.format)) +
                   (needs.arithmetic == Arithmetic::exact ? " in exact arithmetic" : " as it is");
    refused_[{needs.format, needs.arithmetic}] = place.reason;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::out_of_memory) {
      place.reason = "the device had no memory left";  // less than it said, or the estimate is low
    } else if (error.code() == ErrorCode::unsupported) {
      place.reason = error.what();
    } else {
      throw;
    }
  }
  return nullptr;
}

std::unique_ptr<LinearLayer> LayerPlacer::place(const std::string& name, const LayerNeeds& needs,
                                                const Make& make, const MakeOnHost& on_host,
                                                bool round_to_bf16) {
  if (!is_active()) return on_host();
  LayerPlace place;
  place.name = name;
  place.needs = needs.bytes_on(*offload_.device);
  place.reason = reason_to_stay(name, needs, place.needs);
  std::unique_ptr<LinearLayer> layer;
  if (place.reason.empty()) layer = try_device(needs, make, round_to_bf16, place);
  if (layer == nullptr) {
    layer = on_host();
    place.bytes = layer->weight_bytes();
  }
  placement_->layers.push_back(std::move(place));
  return layer;
}

std::unique_ptr<LinearLayer> LayerPlacer::stay(const std::string& name,
                                               std::unique_ptr<LinearLayer> layer,
                                               const std::string& reason) {
  if (!is_active()) return layer;
  std::vector<LayerPlace>& places = placement_->layers;
  // (Parts in float are loaded twice where outlier features are looked for.)
  const bool known = std::any_of(places.begin(), places.end(),
                                 [&](const LayerPlace& place) { return place.name == name; });
  if (!known) places.push_back({.name = name, .bytes = layer->weight_bytes(), .reason = reason});
  return layer;
}

std::int64_t Placement::count(bool on_device) const {
  return std::count_if(layers.begin(), layers.end(),
                       [&](const LayerPlace& layer) { return layer.on_device == on_device; });
}

std::uint64_t Placement::bytes(bool on_device) const {
  std::uint64_t bytes = 0;
  for (const LayerPlace& layer : layers) bytes += layer.on_device == on_device ? layer.bytes : 0;
  return bytes;
}

}  // namespace kvant::models
