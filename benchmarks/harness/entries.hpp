#pragma once

// Contestants that several questions share.

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "harness/ceilings.hpp"
#include "harness/peers.hpp"
#include "harness/runner.hpp"
#include "kvant/aligned_array.hpp"
#include "kvant/kvant.hpp"

namespace kvant::bench {

/// The ceiling loop on `threads` cores at the same time, in GOPS; no work where there is no loop.
inline Entry ceiling_entry(const std::string& isa, int threads) {
  const std::int64_t per_step = ceiling_operations_per_step(isa);
  const std::int64_t steps = per_step > 0 ? 400'000'000 / per_step : 0;
  return {"ceiling", 1e-9 * static_cast<double>(steps * per_step * threads), [=] {
            if (threads == 1) {
              (void)run_ceiling(isa, steps);
              return;
            }
#pragma omp parallel num_threads(threads)
            (void)run_ceiling(isa, steps);
          }};
}

/// Reads [data, data + size) on `threads` cores, in GB/s. *at moves through a ring of `matrices`
/// blocks of that size, so that what is read is cold.
inline Entry stream_entry(const void* data, std::int64_t size, std::int64_t matrices, int streams,
                          int threads, bool prefetch) {
  auto at = std::make_shared<std::int64_t>(0);
  return {"stream", 1e-9 * static_cast<double>(size), [=] {
            const auto* block = static_cast<const char*>(data) + *at * size;
            *at = (*at + 1) % matrices;
            if (threads == 1) {
              const std::uint64_t sum = read_stream(block, size, streams, prefetch);
              keep(&sum);
              return;
            }
#pragma omp parallel num_threads(threads)
            {
              const std::int64_t part = size / threads / 64 * 64;
              const std::uint64_t sum =
                  read_stream(block + omp_get_thread_num() * part, part, streams, prefetch);
              keep(&sum);
            }
          }};
}

/// The streaming reads of which a question takes the best as its ceiling.
inline void add_streams(std::vector<Entry>& entries, const void* data, std::int64_t size,
                        std::int64_t matrices, int threads) {
  for (const int streams : {1, 4, 8}) {
    for (const bool prefetch : {false, true}) {
      entries.push_back(stream_entry(data, size, matrices, streams, threads, prefetch));
    }
  }
}

inline std::vector<float> normal_floats(std::int64_t count, std::uint64_t seed,
                                        float scale = 1.0f) {
  // A cheap generator: filling gigabytes must not take longer than measuring.
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (float& v : values) {
    float sum = 0;
    for (int i = 0; i < 12; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      sum += static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31f;
    }
    v = sum * 0.5f * scale;  // twelve uniforms: variance one, tails to six sigmas
  }
  return values;
}

/// Codes [n, k] as quantized weights have them: normal rows scaled to absmax 127.
inline std::vector<std::int8_t> normal_codes(std::int64_t n, std::int64_t k, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<std::int8_t> codes;
  codes.reserve(static_cast<std::size_t>(n * k));
  std::vector<float> row(static_cast<std::size_t>(k));
  for (std::int64_t i = 0; i < n; ++i) {
    float absmax = 0;
    for (float& v : row) {
      v = normal(generator);
      absmax = std::fmax(absmax, std::fabs(v));
    }
    for (const float v : row) {
      codes.push_back(static_cast<std::int8_t>(std::nearbyint(v * (127.0f / absmax))));
    }
  }
  return codes;
}

/// Uniform codes: the worst case of kernels that depend on pairs of weights being small.
inline std::vector<std::int8_t> random_codes(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(count));
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (std::int8_t& c : codes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<std::int8_t>(static_cast<int>(state >> 33) % 255 - 127);
  }
  return codes;
}

}  // namespace kvant::bench
