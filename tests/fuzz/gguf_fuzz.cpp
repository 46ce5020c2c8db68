// Any bytes as a GGUF file: an error, or a file whose every value and tensor can be read.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/io/gguf.hpp"

namespace {

void read_values(const kvant::io::Gguf& file) {
  for (const std::string_view key : file.keys()) {
    if (!file.has(key)) std::abort();
    (void)file.integer(key);
    (void)file.number(key);
    (void)file.boolean(key);
    (void)file.text(key);
    (void)file.texts(key);
    (void)file.numbers(key);
  }
}

void read_tensors(const kvant::io::Gguf& file) {
  for (const kvant::io::TensorInfo& info : file.tensors()) {
    const kvant::io::GgufTensor* tensor = file.find_gguf(info.name);
    if (tensor == nullptr || file.tensor(info.name).data.size() != info.bytes) std::abort();
    if (tensor->type->dequantize == nullptr || info.bytes == 0) continue;
    const std::uint64_t row = tensor->shape.empty() ? 1 : tensor->shape.back();
    std::vector<float> values(static_cast<std::size_t>(row));
    const std::uint64_t rows = info.bytes / (row / tensor->type->elements * tensor->type->bytes);
    for (std::uint64_t r = 0; r < std::min<std::uint64_t>(rows, 16); ++r) {
      file.dequantize(info.name, static_cast<std::int64_t>(r), 1, values.data());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = kvant::io::Gguf::from_bytes(std::as_bytes(std::span(data, size)));
    read_values(file);
    read_tensors(file);
  } catch (const kvant::Error&) {
  }
  return 0;
}
