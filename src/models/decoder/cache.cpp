#include "kvant/models/cache.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "kvant/error.hpp"

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

void KvRows::append(KvFormat format, const float* row, std::int64_t heads, std::int64_t head_dim) {
  const auto width = static_cast<std::size_t>(heads * head_dim);
  if (format == KvFormat::fp32) {
    floats.insert(floats.end(), row, row + width);
    return;
  }
  const std::size_t old = codes.size();
  codes.resize(old + width);
  for (std::int64_t h = 0; h < heads; ++h) {
    std::int8_t* to = codes.data() + old + h * head_dim;
    scales.push_back(quantize_head(row + h * head_dim, head_dim, to));
  }
}

const float* KvRows::head(std::int64_t head, std::int64_t heads, std::int64_t head_dim,
                          std::int64_t begin, std::int64_t count, std::vector<float>& scratch,
                          std::int64_t& stride) const {
  const std::int64_t width = heads * head_dim;
  const std::int64_t at = begin * width + head * head_dim;
  if (codes.empty()) {
    stride = width;
    return floats.data() + at;
  }
  stride = head_dim;
  scratch.resize(static_cast<std::size_t>(count * head_dim));
  for (std::int64_t r = 0; r < count; ++r) {
    const float scale = scales[static_cast<std::size_t>((begin + r) * heads + head)];
    const std::int8_t* from = codes.data() + at + r * width;
    float* to = scratch.data() + r * head_dim;
    for (std::int64_t i = 0; i < head_dim; ++i) to[i] = static_cast<float>(from[i]) * scale;
  }
  return scratch.data();
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
      const auto count = static_cast<std::size_t>(config.kv_dim() * tokens);
      for (KvRows* rows : {&layer.keys, &layer.values}) {
        if (format == KvFormat::fp32) {
          rows->floats.reserve(count);
        } else {
          rows->codes.reserve(count);
          rows->scales.reserve(static_cast<std::size_t>(config.n_kv_head * tokens));
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
