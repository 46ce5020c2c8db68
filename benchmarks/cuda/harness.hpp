#pragma once

// Timing on a device: calls are put into a CUDA graph, so that launches cost what they cost in a
// server, and the graph's replays are timed by events. Weights rotate through more than twice the
// second-level cache, so that every call reads them from memory.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace kvant::bench {

void require(cudaError_t status, const char* what);

/// Memory of the device, as long as it lives.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

struct Timing {
  double us = 0;      ///< of one call: the median of the replays
  double spread = 0;  ///< half of the replays lie within this share of it
};

/// Copies of something of so many bytes that are more than twice the second-level cache.
int rotation(std::size_t bytes);

class Session {
 public:
  /// Skips the program with exit code 77 where there is no device.
  Session(int argc, char** argv, const std::string& question);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }
  /// @param call  puts one call on stream(), the i-th of a graph of `calls`
  Timing time(const std::function<void(int i)>& call, int calls);
  /// Several things by turns, so that all are measured on a card as warm: at full load it lowers
  /// its clock.
  std::vector<Timing> time_by_turns(const std::vector<std::function<void(int i)>>& calls_of,
                                    int calls);

  /// Trillions of bytes a second of a streaming read of so many bytes.
  double read_ceiling(std::size_t bytes);
  /// Trillions of int8 operations a second.
  double multiply_ceiling();

  /// One line of the table and one record of the JSON file.
  void add(const std::string& what, const Timing& timing, double value, const std::string& unit,
           double ceiling, const std::vector<std::pair<std::string, double>>& peers_us = {});
  void wrong(const std::string& what);
  /// Writes the JSON file, if one was asked for; the exit status.
  int finish();

 private:
  std::string question_;
  std::string json_path_{};
  nlohmann::json records_ = nlohmann::json::array();
  std::string card_{};
  cudaStream_t stream_ = nullptr;
  bool wrong_ = false;
};

}  // namespace kvant::bench
