#pragma once

// What the figures were measured on.

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

}  // namespace kvant::bench
