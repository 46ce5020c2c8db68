#pragma once

// What tests of users' model folders share: small models, and questions to a summary.

#include <string>
#include <vector>

#include "kvant/io/quantize_checkpoint.hpp"
#include "support/checkpoint_builder.hpp"

namespace kvant::test {

using Shape = std::vector<std::uint64_t>;

inline CheckpointBuilder& add(CheckpointBuilder& builder, const std::string& name,
                              const Shape& shape, float value = 0.5f) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : shape) count *= size;
  return builder.add(name, shape, std::vector<float>(count, value));
}

/// A llama of one layer, and what a test adds.
inline CheckpointBuilder& small_llama(CheckpointBuilder& builder,
                                      const std::string& config = R"({"model_type": "llama"})") {
  builder.config(config);
  return add(builder, "model.layers.0.mlp.up_proj.weight", {4, 8});
}

inline std::string warning(const io::CheckpointSummary& summary, io::WarningKind kind) {
  for (const auto& each : summary.warnings) {
    if (each.kind == kind) return each.text;
  }
  return {};
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace kvant::test
