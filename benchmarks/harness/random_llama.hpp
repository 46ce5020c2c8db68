#pragma once

// A model to measure where there is none.

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "harness/entries.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/safetensors_writer.hpp"

namespace kvant::bench {

inline constexpr std::int64_t kRandomVocabulary = 49152;

/// A Llama with random weights in a folder of its own, which goes with the object.
class RandomLlama {
 public:
  RandomLlama(std::int64_t layers, std::int64_t width, std::int64_t inner)
      : path_(path_of(layers, width, inner)) {
    std::filesystem::create_directories(path_);
    const std::int64_t heads = std::max<std::int64_t>(1, width / 64);
    const std::int64_t kv_heads = heads % 3 == 0 ? heads / 3 : heads;
    const nlohmann::json config = {{"model_type", "llama"},
                                   {"hidden_size", width},
                                   {"intermediate_size", inner},
                                   {"num_hidden_layers", layers},
                                   {"num_attention_heads", heads},
                                   {"num_key_value_heads", kv_heads},
                                   {"head_dim", 64},
                                   {"vocab_size", kRandomVocabulary},
                                   {"max_position_embeddings", 2048},
                                   {"tie_word_embeddings", true}};
    std::ofstream(path_ / "config.json") << config;
    // The same values for all layers: it is their number that takes time.
    const std::int64_t most = std::max(kRandomVocabulary, inner) * width;
    std::vector<bfloat16> values;
    values.reserve(static_cast<std::size_t>(most));
    for (const float v : normal_floats(most, 5, 0.04f)) values.emplace_back(v);
    const std::vector<bfloat16> ones(static_cast<std::size_t>(width), bfloat16(1.0f));
    io::SafeTensorsWriter writer;
    const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
      writer.add(name, MatrixView<const bfloat16>(values.data(), rows, cols));
    };
    const auto norm = [&](const std::string& name) {
      writer.add(name, DType::bfloat16, {static_cast<std::uint64_t>(width)},
                 std::as_bytes(std::span(ones)));
    };
    matrix("model.embed_tokens.weight", kRandomVocabulary, width);
    norm("model.norm.weight");
    for (std::int64_t n = 0; n < layers; ++n) {
      const std::string block = fmt::format("model.layers.{}.", n);
      norm(block + "input_layernorm.weight");
      norm(block + "post_attention_layernorm.weight");
      matrix(block + "self_attn.q_proj.weight", heads * 64, width);
      matrix(block + "self_attn.k_proj.weight", kv_heads * 64, width);
      matrix(block + "self_attn.v_proj.weight", kv_heads * 64, width);
      matrix(block + "self_attn.o_proj.weight", width, heads * 64);
      matrix(block + "mlp.gate_proj.weight", inner, width);
      matrix(block + "mlp.up_proj.weight", inner, width);
      matrix(block + "mlp.down_proj.weight", width, inner);
    }
    writer.write(path_ / "model.safetensors");
  }
  ~RandomLlama() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  RandomLlama(const RandomLlama&) = delete;
  RandomLlama& operator=(const RandomLlama&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  static std::filesystem::path path_of(std::int64_t layers, std::int64_t width,
                                       std::int64_t inner) {
    return std::filesystem::temp_directory_path() /
           fmt::format("kvant-bench-{}x{}x{}", layers, width, inner);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace kvant::bench
