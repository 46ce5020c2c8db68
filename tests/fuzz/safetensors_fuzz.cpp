// libFuzzer target: any bytes give an error or a fully consistent view of the file.
//
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude -Isrc
//       tests/fuzz/safetensors_fuzz.cpp src/io/*.cpp -o safetensors_fuzz
//   ./safetensors_fuzz corpus tests/data/safetensors/good tests/data/safetensors/bad

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "kvant/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = kvant::io::SafeTensors::from_bytes(std::as_bytes(std::span(data, size)));
    std::size_t total = 0;
    volatile unsigned touched = 0;
    for (const auto& info : file.tensors()) {
      const auto view = file.tensor(info.name);
      if (view.info != &info || view.data.size() != info.bytes) std::abort();
      for (const std::byte b : view.data) touched = touched + std::to_integer<unsigned>(b);
      total += view.data.size();
      if (info.dtype == kvant::DType::float32 && info.shape.size() <= 2) {
        for (const float v : file.values<float>(info.name)) touched = touched + (v > 0 ? 1u : 0u);
      }
    }
    if (total > size) std::abort();
  } catch (const kvant::io::FormatError&) {
  }
  return 0;
}
