#pragma once

// The processes that mpirun started for the tests, and the numbers that all of them begin with.

#include <cstdint>
#include <kvant/mpi.hpp>
#include <random>
#include <vector>

namespace kvant::test {

inline mpi::Communicator& world() {
  static mpi::Communicator ranks;
  return ranks;
}

/// Normal ones, the same on every rank.
inline std::vector<float> random_values(std::int64_t count) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace kvant::test
