#include "io/layers/values.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "kvant/error.hpp"
#include "kvant/visit_dtype.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kChunk = 1024;  // elements that are copied before they are converted

template <class T>
OddValues count_odd_values(std::span<const std::byte> data) {
  constexpr std::size_t kCounted = 4096;
  std::array<T, kCounted> chunk{};
  OddValues odd;
  for (std::size_t at = 0; at < data.size(); at += kCounted * sizeof(T)) {
    const std::size_t n = std::min(kCounted, (data.size() - at) / sizeof(T));
    std::memcpy(static_cast<void*>(chunk.data()), data.data() + at, n * sizeof(T));
    for (std::size_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(chunk[i]);
      // Most values are finite: one test for them.
      if (!(std::abs(value) <= std::numeric_limits<double>::max())) {
        (std::isnan(value) ? odd.nan : odd.infinite) += 1;
      }
      odd.negative += value < 0 ? 1u : 0u;
    }
  }
  return odd;
}

}  // namespace

void widen(const std::byte* from, DType dtype, std::int64_t count, float* to) {
  if (dtype == DType::float32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (requires(T value) { static_cast<float>(value); }) {
      std::array<T, kChunk> chunk{};
      for (std::int64_t i = 0; i < count; i += kChunk) {
        const std::int64_t n = std::min(kChunk, count - i);
        std::memcpy(static_cast<void*>(chunk.data()),
                    from + i * static_cast<std::int64_t>(sizeof(T)),
                    static_cast<std::size_t>(n) * sizeof(T));
        for (std::int64_t k = 0; k < n; ++k) {
          to[i + k] = static_cast<float>(chunk[static_cast<std::size_t>(k)]);
        }
      }
    } else {
      throw Error(ErrorCode::unsupported, "weights of type " + std::string(to_string(dtype)));
    }
  });
}

OddValues count_odd(const TensorView& view) {
  const DType dtype = view.info->dtype;
  const bool listed_only = dtype == DType::float6_e2m3fn || dtype == DType::float6_e3m2fn ||
                           dtype == DType::float4_e2m1fn;
  if (describe(dtype).kind != DTypeKind::floating || listed_only) return {};
  return visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (std::is_same_v<T, double> || std::is_same_v<T, float>) {
      return count_odd_values<T>(view.data);
    } else if constexpr (requires(T value) { static_cast<float>(value); } &&
                         !std::is_integral_v<T>) {
      struct Narrow {
        T value;
        explicit operator double() const { return static_cast<double>(static_cast<float>(value)); }
      };
      return count_odd_values<Narrow>(view.data);
    } else {
      return OddValues{};
    }
  });
}

std::string OddValues::text() const {
  return std::to_string(nan) + " NaN and " + std::to_string(infinite) + " infinite";
}

}  // namespace kvant::io
