#include "harness/machine.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

namespace kvant::bench {

Machine this_machine() {
  Machine m{"unknown", "", KVANT_COMMIT, static_cast<int>(std::thread::hardware_concurrency()), 0,
            0,         0};
  std::ifstream info("/proc/cpuinfo");
  std::string family;
  std::string model;
  for (std::string line; std::getline(info, line);) {
    const auto value = [&] { return line.substr(std::min(line.size(), line.find(':') + 2)); };
    if (line.starts_with("model name")) {
      m.cpu = value();
    } else if (line.starts_with("cpu family")) {
      family = value();
    } else if (line.starts_with("model\t")) {
      model = value();
    }
    if (line.starts_with("stepping")) break;
  }
  if (!model.empty()) m.cpu += " (family " + family + ", model " + model + ")";
#if defined(__clang__)
  m.compiler = "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#elif defined(__GNUC__)
  m.compiler = "g++ " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
  m.l1_data = std::max(0L, sysconf(_SC_LEVEL1_DCACHE_SIZE));
  m.l2 = std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE));
  m.l3 = std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE));
  return m;
}

std::int64_t cold_bytes() {
  const std::int64_t memory = std::int64_t{sysconf(_SC_AVPHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const std::int64_t wanted = std::clamp<std::int64_t>(
      4 * std::int64_t{this_machine().l3}, std::int64_t{128} << 20, std::int64_t{1} << 30);
  return std::min(wanted, memory / 4);
}

}  // namespace kvant::bench
