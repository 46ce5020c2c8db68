// A GGUF file's tensors by the names of Hugging Face's checkpoints.

#include <array>
#include <charconv>
#include <cstring>
#include <numeric>
#include <utility>

#include "kvant/error.hpp"
#include "models/load/gguf_model.hpp"

namespace kvant::models {
namespace {

using Name = std::pair<std::string_view, std::string_view>;

constexpr std::array<Name, 3> kOutside = {
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<Name, 11> kInside = {{{"input_layernorm", "attn_norm"},
                                           {"post_attention_layernorm", "ffn_norm"},
                                           {"self_attn.q_proj", "attn_q"},
                                           {"self_attn.k_proj", "attn_k"},
                                           {"self_attn.v_proj", "attn_v"},
                                           {"self_attn.o_proj", "attn_output"},
                                           {"self_attn.q_norm", "attn_q_norm"},
                                           {"self_attn.k_norm", "attn_k_norm"},
                                           {"mlp.gate_proj", "ffn_gate"},
                                           {"mlp.up_proj", "ffn_up"},
                                           {"mlp.down_proj", "ffn_down"}}};

template <class Table>
std::string_view translated(const Table& table, std::string_view name) {
  for (const Name& each : table) {
    if (each.first == name) return each.second;
  }
  return {};
}

/// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; empty: there is no such name.
std::string gguf_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view part = name.substr(dot);  // ".weight"
  name = name.substr(0, dot);
  constexpr std::string_view kLayers = "model.layers.";
  std::string result;
  if (!name.starts_with(kLayers)) {
    result = translated(kOutside, name);
  } else {
    name.remove_prefix(kLayers.size());
    const std::size_t end = name.find('.');
    if (end == std::string_view::npos) return {};
    const std::string_view inside = translated(kInside, name.substr(end + 1));
    if (inside.empty()) return {};
    result = "blk." + std::string(name.substr(0, end)) + "." + std::string(inside);
  }
  return result.empty() ? result : result.append(part);
}

class GgufWeights final : public WeightSource {
 public:
  GgufWeights(const std::filesystem::path& path, const Config& config)
      : file_(path),
        config_(config),
        turns_pairs_(file_.text("general.architecture").value_or("") == "llama") {}

  [[nodiscard]] bool contains(const std::string& name) const override {
    return file_.contains(gguf_name(name));
  }

  [[nodiscard]] SourceTensor describe(const std::string& name) const override {
    (void)file_.tensor(gguf_name(name));  // throws if it is missing
    return {file_.find_gguf(gguf_name(name))->shape, DType::float32};
  }

  void read(const std::string& name, std::int64_t first, std::int64_t count,
            void* out) const override {
    const std::string stored = gguf_name(name);
    auto* floats = static_cast<float*>(out);
    const std::int64_t heads = heads_of(name);
    if (heads == 0) {
      file_.dequantize(stored, first, count, floats);
      return;
    }
    // llama.cpp turns neighbours where transformers turns halves: rows of q and k lie in its order.
    const std::vector<std::uint64_t>& shape = file_.find_gguf(stored)->shape;
    const auto rows = static_cast<std::int64_t>(shape.front());
    const std::int64_t head_dim = rows / heads;
    const auto stored_row = [&](std::int64_t row) {
      const std::int64_t in_head = row % head_dim;
      const std::int64_t half = head_dim / 2;
      return row - in_head + in_head % half * 2 + in_head / half;
    };
    if (shape.size() == 1) {  // a bias
      std::vector<float> all(static_cast<std::size_t>(rows));
      file_.dequantize(stored, 0, 1, all.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        floats[r] = all[static_cast<std::size_t>(stored_row(r))];
      }
      return;
    }
    const auto columns = static_cast<std::int64_t>(shape.back());
    for (std::int64_t r = 0; r < count; ++r) {
      file_.dequantize(stored, stored_row(first + r), 1, floats + r * columns);
    }
  }

  void release(const std::string& name) const override { file_.release(gguf_name(name)); }

 private:
  /// Heads of a tensor whose rows are reordered; 0: they are not.
  [[nodiscard]] std::int64_t heads_of(std::string_view name) const {
    if (!turns_pairs_) return 0;
    if (name.find(".q_proj.") != std::string_view::npos) return config_.n_head;
    if (name.find(".k_proj.") != std::string_view::npos) return config_.n_kv_head;
    return 0;
  }

  io::Gguf file_;
  const Config& config_;
  bool turns_pairs_;
};

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  return path.extension() == ".gguf";
}

std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& path,
                                                const Config& config) {
  return std::make_unique<GgufWeights>(path, config);
}

}  // namespace kvant::models
