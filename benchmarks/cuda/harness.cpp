#include "cuda/harness.hpp"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "cuda/ceilings.hpp"

namespace kvant::bench {

void require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fmt::print(stderr, "{}: {}\n", what, cudaGetErrorString(status));
  std::exit(1);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  require(cudaMalloc(&data, bytes), "cudaMalloc");
  data_ = static_cast<std::byte*>(data);
}
DeviceBuffer::~DeviceBuffer() {
  cudaFree(data_);
}

int rotation(std::size_t bytes) {
  int cache = 0;
  require(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, 0), "the cache");
  return static_cast<int>(static_cast<std::size_t>(cache) * 5 / 2 / bytes) + 2;
}

Session::Session(int argc, char** argv, const std::string& question) : question_(question) {
  CLI::App app("CUDA benchmark: " + question);
  app.add_option("--json", json_path_, "write the figures to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    fmt::print("{}: skipped: no CUDA device\n", question);
    std::exit(77);
  }
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, 0), "the device");
  card_ = properties.name;
  require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
  fmt::print("\n{} on {}: {} multiprocessors, {} MiB of second-level cache\n", question, card_,
             properties.multiProcessorCount, properties.l2CacheSize >> 20);
  fmt::print("{:<44} {:>9} {:>6} {:>14} {:>8}  peers (us)\n", "", "us", "+-%", "", "ceiling");
}

Session::~Session() {
  cudaStreamDestroy(stream_);
}

Timing Session::time(const std::function<void(int)>& call, int calls) {
  return time_by_turns({call}, calls).front();
}

std::vector<Timing> Session::time_by_turns(const std::vector<std::function<void(int)>>& calls_of,
                                           int calls) {
  constexpr int kRounds = 13, kWarmUp = 2;
  std::vector<cudaGraphExec_t> graphs;
  for (const auto& call : calls_of) {
    call(0);  // modules are loaded and workspaces grow here
    require(cudaStreamSynchronize(stream_), question_.c_str());
    require(cudaGetLastError(), question_.c_str());
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < calls; ++i) call(i);
    require(cudaStreamEndCapture(stream_, &graph), "capture");
    require(cudaGraphInstantiate(&executable, graph, 0), "the graph");
    require(cudaGraphDestroy(graph), "the graph");
    graphs.push_back(executable);
  }
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaEventCreate(&begin), "an event");
  require(cudaEventCreate(&end), "an event");
  std::vector<std::vector<double>> us(graphs.size());
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t g = 0; g < graphs.size(); ++g) {
      require(cudaEventRecord(begin, stream_), "an event");
      require(cudaGraphLaunch(graphs[g], stream_), "the graph");
      require(cudaEventRecord(end, stream_), "an event");
      require(cudaEventSynchronize(end), "the graph");
      float ms = 0;
      require(cudaEventElapsedTime(&ms, begin, end), "an event");
      if (round >= kWarmUp) us[g].push_back(1e3 * static_cast<double>(ms) / calls);
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::vector<Timing> timings;
  for (std::size_t g = 0; g < graphs.size(); ++g) {
    cudaGraphExecDestroy(graphs[g]);
    std::sort(us[g].begin(), us[g].end());
    const std::size_t n = us[g].size();
    timings.push_back({us[g][n / 2], (us[g][n * 3 / 4] - us[g][n / 4]) / 2 / us[g][n / 2]});
  }
  return timings;
}

double Session::read_ceiling(std::size_t bytes) {
  const int copies = rotation(bytes);
  const DeviceBuffer data(bytes * static_cast<std::size_t>(copies)), sink(256);
  fill_codes(data.data(), data.bytes(), 9, stream_);
  const Timing timing = time(
      [&](int i) {
        stream_read(data.data() + static_cast<std::size_t>(i % copies) * bytes, bytes, sink.data(),
                    stream_);
      },
      std::max(copies, 8));
  return static_cast<double>(bytes) / timing.us * 1e-6;
}

double Session::multiply_ceiling() {
  const DeviceBuffer data(1 << 20), sink(256);
  fill_codes(data.data(), data.bytes(), 8, stream_);
  double operations = 0;
  const Timing timing =
      time([&](int) { operations = multiply_loop(data.data(), 4096, sink.data(), stream_); }, 5);
  return operations / timing.us * 1e-6;
}

void Session::add(const std::string& what, const Timing& timing, double value,
                  const std::string& unit, double ceiling,
                  const std::vector<std::pair<std::string, double>>& peers_us) {
  std::string peers;
  nlohmann::json peers_json = nlohmann::json::object();
  for (const auto& [name, us] : peers_us) {
    peers += fmt::format("{} {:.1f} ({:.2f}x)  ", name, us, us / timing.us);
    peers_json[name] = us;
  }
  fmt::print("{:<44} {:>9.1f} {:>6.1f} {:>8.2f} {:<5} {:>8}  {}\n", what, timing.us,
             100 * timing.spread, value, unit,
             ceiling > 0 ? fmt::format("{:.2f}", value / ceiling) : std::string("-"), peers);
  std::fflush(stdout);
  records_.push_back({{"question", question_},
                      {"card", card_},
                      {"what", what},
                      {"us", timing.us},
                      {"spread", timing.spread},
                      {"value", value},
                      {"unit", unit},
                      {"ceiling", ceiling},
                      {"peers_us", peers_json}});
}

void Session::wrong(const std::string& what) {
  fmt::print(stderr, "{}: wrong answer: {}\n", question_, what);
  wrong_ = true;
}

int Session::finish() {
  if (!json_path_.empty()) std::ofstream(json_path_) << records_.dump(1) << "\n";
  return wrong_ ? 1 : 0;
}

}  // namespace kvant::bench
