#pragma once

// Times several things against each other: Google Benchmark repeats and interleaves them at random,
// so that a machine that changes its speed slows all of them; the median of the repetitions counts.

#include <functional>
#include <string>
#include <vector>

namespace kvant::bench {

/// One contestant. run() does the work once; the figure is work / median time.
struct Entry {
  std::string name;
  double work;  ///< operations or bytes per run, in units of 1e9 (GOPS, GB/s)
  std::function<void()> run;
};

struct Figure {
  double value = 0;   ///< work per second, median
  double lowest = 0;  ///< of the repetitions
  double highest = 0;
};

/// Figures in the order of the entries.
std::vector<Figure> race(const std::vector<Entry>& entries, bool quick);

/// Keeps a value alive.
void keep(const void* p);

}  // namespace kvant::bench
