#pragma once

// The processes that mpirun started for the tests.

#include <kvant/mpi.hpp>

namespace kvant::test {

inline mpi::Communicator& world() {
  static mpi::Communicator ranks;
  return ranks;
}

}  // namespace kvant::test
