// dummy_model: what casting a model to bfloat16 does to its parameters, its answers and its memory.
//
//     dummy_model [MODEL.safetensors]

#include "dummy_model.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <algorithm>
#include <cmath>
#include <exception>

namespace {

template <class T>
void print_parameters(const dummy::DummyModel<T>& model) {
  for (const auto& p : model.parameters()) {
    fmt::print("  {:<24} {:<9} [{}]\n", p.name, kvant::to_string(kvant::dtype_of<T>),
               fmt::join(p.shape, ", "));
  }
}

void print_logits(const char* title, const std::vector<float>& logits) {
  fmt::print("  {:<9}", title);
  for (const float value : logits) fmt::print(" {:>11.8f}", value);
  fmt::print("\n");
}

void run(const std::filesystem::path& path) {
  dummy::DummyModel<float> model(path);
  fmt::print("Parameters as they come:\n");
  print_parameters(model);

  const dummy::DummyModel<kvant::bfloat16> half = model.cast<kvant::bfloat16>();
  fmt::print("\nAfter the cast:\n");
  print_parameters(half);

  const std::vector<std::int64_t> ids = {1, 0, 0, 1};
  const std::vector<float> exact = model.forward(ids);
  const std::vector<float> rounded = half.forward(ids);
  float sum = 0;
  float largest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const float difference = std::fabs(exact[i] - rounded[i]);
    sum += difference;
    largest = std::max(largest, difference);
  }
  fmt::print("\nLogits of the ids {}:\n", fmt::join(ids, ", "));
  print_logits("float32", exact);
  print_logits("bfloat16", rounded);
  fmt::print("  mean difference {:.10g}, largest {:.10g}\n", sum / static_cast<float>(exact.size()),
             largest);

  // The cast made a copy: what happens to the one does not touch the other.
  for (auto& p : model.parameters()) std::fill(p.values.begin(), p.values.end(), 0.0f);
  fmt::print("\nThe copy is independent: {}\n",
             half.forward(ids) == rounded ? "its logits stay when the original is zeroed" : "NO");

  fmt::print("\nMemory footprint: float32 {} bytes, bfloat16 {} bytes\n", model.memory_footprint(),
             half.memory_footprint());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::filesystem::path path = argc > 1 ? argv[1] : "models/dummy_model/model.safetensors";
    if (argc < 2 && !std::filesystem::exists(path)) path = "examples" / path;
    run(path);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "dummy_model: {}\n", error.what());
    return 1;
  }
}
