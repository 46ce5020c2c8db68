#include "harness/runner.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>

namespace kvant::bench {
namespace {

/// Collects seconds per iteration of every repetition.
class Collector final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      seconds[run.run_name.function_name].push_back(run.real_accumulated_time /
                                                    static_cast<double>(run.iterations));
    }
  }
  std::map<std::string, std::vector<double>> seconds;
};

}  // namespace

std::vector<Figure> race(const std::vector<Entry>& entries, bool quick) {
  static const bool initialized = [] {
    static char program[] = "bench";
    static char interleave[] = "--benchmark_enable_random_interleaving=true";
    char* arguments[] = {program, interleave, nullptr};
    int count = 2;
    benchmark::Initialize(&count, arguments);
    return true;
  }();
  (void)initialized;
  benchmark::ClearRegisteredBenchmarks();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].run();  // caches, pages, clocks, lazily made primitives
    benchmark::RegisterBenchmark(std::to_string(i).c_str(),
                                 [&entry = entries[i]](benchmark::State& state) {
                                   for (auto _ : state) entry.run();
                                 })
        ->UseRealTime()
        ->MeasureProcessCPUTime()
        ->MinTime(quick ? 0.04 : 0.12)
        ->Repetitions(quick ? 7 : 9);
  }
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  std::vector<Figure> figures;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    std::vector<double> seconds = collector.seconds[std::to_string(i)];
    std::sort(seconds.begin(), seconds.end());
    Figure figure;
    if (!seconds.empty()) {
      figure.value = entries[i].work / seconds[seconds.size() / 2];
      figure.lowest = entries[i].work / seconds.back();
      figure.highest = entries[i].work / seconds.front();
    }
    figures.push_back(figure);
  }
  return figures;
}

void keep(const void* p) {
  benchmark::DoNotOptimize(p);
}

}  // namespace kvant::bench
