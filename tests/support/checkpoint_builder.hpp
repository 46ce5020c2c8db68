#pragma once

// Small checkpoints for tests, written tensor by tensor into a folder of their own.

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "kvant/io/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {

class CheckpointBuilder {
 public:
  template <class T>
  CheckpointBuilder& add(const std::string& name, std::vector<std::uint64_t> shape,
                         const std::vector<T>& values) {
    std::vector<std::byte>& bytes = data_.emplace_back(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    writer_.add(name, dtype_of<T>, std::move(shape), bytes);
    return *this;
  }

  CheckpointBuilder& config(const std::string& json) {
    folder_.write("config.json", json);
    return *this;
  }

  /// The folder, complete with model.safetensors.
  std::string write() {
    writer_.write(folder_.path() / "model.safetensors");
    return folder_.path().string();
  }
  [[nodiscard]] const TempFolder& folder() const { return folder_; }

 private:
  TempFolder folder_;
  io::SafeTensorsWriter writer_;
  std::deque<std::vector<std::byte>> data_;
};

/// Deterministic values in (-1, 1), another sequence for each seed.
inline std::vector<float> wave(std::size_t count, unsigned seed) {
  std::vector<float> values(count);
  std::uint32_t state = 2654435761u * (seed + 1);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
  }
  return values;
}

}  // namespace kvant::test
