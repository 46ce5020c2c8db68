#include "kvant/models/cache.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "kvant/error.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

constexpr float kLargestCode = 127.0f;

/// Codes of a head, rounded half to even. @return the scale; NaN where a value is no number, and so
/// every product with it
float quantize_head(const float* values, std::int64_t size, std::int8_t* codes) {
  float absmax = 0.0f;
  bool finite = true;
  for (std::int64_t i = 0; i < size; ++i) {
    finite = finite && std::isfinite(values[i]);
    absmax = std::max(absmax, std::fabs(values[i]));
  }
  if (!finite) {
    std::fill(codes, codes + size, std::int8_t{1});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float by = kLargestCode / absmax;
  if (!std::isfinite(by)) {  // zeros, or next to nothing
    std::fill(codes, codes + size, std::int8_t{0});
    return 0.0f;
  }
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the unit of a float there is 1
  for (std::int64_t i = 0; i < size; ++i) {
    codes[i] = static_cast<std::int8_t>((values[i] * by + kShift) - kShift);
  }
  return absmax / kLargestCode;
}

}  // namespace

std::string_view to_string(KvFormat format) noexcept {
  return format == KvFormat::int8 ? "int8" : "fp32";
}

std::optional<KvFormat> kv_format_from_name(std::string_view name) noexcept {
  if (name == "fp32") return KvFormat::fp32;
  if (name == "int8") return KvFormat::int8;
  return std::nullopt;
}

void LayerCache::append(const float* key, const float* value, std::int64_t heads,
                        std::int64_t head_dim) {
  const std::int64_t width = heads * head_dim;
  const std::int64_t lane = tokens % kPanelTokens;
  const auto panel = static_cast<std::size_t>(tokens / kPanelTokens);
  const auto panel_size = static_cast<std::size_t>(width * kPanelTokens);
  const auto row = static_cast<std::size_t>(width);
  if (format == KvFormat::fp32) {
    if (lane == 0) keys.floats.resize((panel + 1) * panel_size);
    float* to = keys.floats.data() + panel * panel_size + lane;
    for (std::int64_t c = 0; c < width; ++c) to[c * kPanelTokens] = key[c];
    values.floats.insert(values.floats.end(), value, value + row);
    ++tokens;
    return;
  }
  const auto panel_scales = static_cast<std::size_t>(heads * kPanelTokens);
  if (lane == 0) {
    keys.codes.resize((panel + 1) * panel_size);
    keys.scales.resize((panel + 1) * panel_scales);
    values.scales.resize((panel + 1) * panel_scales);
  }
  const std::size_t value_row = values.codes.size();
  values.codes.resize(value_row + row);
  std::int8_t* to = keys.codes.data() + panel * panel_size + lane;
  std::vector<std::int8_t> codes(static_cast<std::size_t>(head_dim));
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::size_t scale =
        panel * panel_scales + static_cast<std::size_t>(h * kPanelTokens + lane);
    keys.scales[scale] = quantize_head(key + h * head_dim, head_dim, codes.data());
    for (std::int64_t i = 0; i < head_dim; ++i) {
      to[(h * head_dim + i) * kPanelTokens] = codes[static_cast<std::size_t>(i)];
    }
    std::int8_t* const value_codes =
        values.codes.data() + value_row + static_cast<std::size_t>(h * head_dim);
    values.scales[scale] = quantize_head(value + h * head_dim, head_dim, value_codes);
  }
  ++tokens;
}

void LayerCache::clear() {
  tokens = 0;
  for (KvValues* part : {&keys, &values}) {
    part->floats.clear();
    part->codes.clear();
    part->scales.clear();
  }
}

void Cache::clear() {
  length = 0;
  source.clear();
  for (LayerCache& layer : layers) layer.clear();
}

std::size_t Cache::token_bytes(const Config& config, KvFormat format) {
  const std::int64_t row =
      format == KvFormat::fp32
          ? config.kv_dim() * static_cast<std::int64_t>(sizeof(float))
          : config.kv_dim() + config.n_kv_head * static_cast<std::int64_t>(sizeof(float));
  return static_cast<std::size_t>(2 * config.n_layer * row);
}

void Cache::reserve(const Config& config, std::int64_t tokens) {
  // In floating point: the product of four numbers of a hostile file may wrap.
  const double bytes =
      static_cast<double>(token_bytes(config, format)) * static_cast<double>(tokens);
  try {
    if (bytes > 1e18) throw std::bad_alloc();
    layers.resize(static_cast<std::size_t>(config.n_layer), LayerCache{format});
    for (LayerCache& layer : layers) {
      const std::int64_t padded = (tokens + kPanelTokens - 1) / kPanelTokens * kPanelTokens;
      const auto count = static_cast<std::size_t>(config.kv_dim() * padded);
      for (KvValues* part : {&layer.keys, &layer.values}) {
        if (format == KvFormat::fp32) {
          part->floats.reserve(count);
        } else {
          part->codes.reserve(count);
          part->scales.reserve(static_cast<std::size_t>(config.n_kv_head * padded));
        }
      }
    }
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory,
                "no memory for the keys and values of " + std::to_string(tokens) + " tokens (" +
                    std::to_string(static_cast<std::int64_t>(std::min(bytes, 1e18) / 1e6)) +
                    " MB); ask for fewer");
  }
}

}  // namespace kvant::models
