#pragma once

// Seeded random data. Tests print the seed on failure (INFO) and replay with KVANT_TEST_SEED.

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace kvant::test {

/// KVANT_TEST_SEED, or a fixed default: a plain run is reproducible.
inline std::uint64_t test_seed() {
  const char* text = std::getenv("KVANT_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 20261121u;
}

inline std::vector<float> random_floats(std::mt19937_64& generator, std::int64_t count,
                                        float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = normal(generator);
  return values;
}

/// Floats of a generator of their own.
inline std::vector<float> normals(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  return random_floats(generator, count);
}

inline std::vector<std::int8_t> random_codes(std::mt19937_64& generator, std::int64_t count,
                                             int lowest = -128, int highest = 127) {
  std::uniform_int_distribution<int> uniform(lowest, highest);
  std::vector<std::int8_t> values(static_cast<std::size_t>(count));
  for (std::int8_t& v : values) v = static_cast<std::int8_t>(uniform(generator));
  return values;
}

}  // namespace kvant::test
