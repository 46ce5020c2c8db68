#pragma once

// What the figures were measured on.

#include <cstdint>
#include <string>

namespace kvant::bench {

struct Machine {
  std::string cpu;
  std::string compiler;
  std::string commit;
  int cores;
  long l1_data, l2, l3;  ///< bytes; 0 where unknown
};

Machine this_machine();

/// How many bytes to go through before the first are in no cache any more: 4 times the last level
/// that is reported, within 128 MiB (virtual machines report too little, or nothing) and 1 GiB (or
/// a whole socket's, of which their cores have a part), and within a quarter of the free memory.
std::int64_t cold_bytes();

}  // namespace kvant::bench
