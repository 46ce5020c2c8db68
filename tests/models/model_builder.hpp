#pragma once

// Small random GPTBigCode folders, and a plain float64 forward pass to compare with.

#include <cmath>
#include <cstdint>
#include <kvant/dtype.hpp>
#include <kvant/io/safetensors_writer.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/temp_folder.hpp"

namespace kvant::test {

struct TestTensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};

struct TestModel {
  nlohmann::json config = {{"model_type", "gpt_bigcode"},
                           {"vocab_size", 99},
                           {"n_positions", 40},
                           {"n_embd", 32},
                           {"n_layer", 2},
                           {"n_head", 4},
                           {"n_inner", 37},
                           {"bos_token_id", 1},
                           {"eos_token_id", 98}};
  std::map<std::string, TestTensor> tensors;

  [[nodiscard]] std::int64_t get(const char* key) const {
    return config.at(key).get<std::int64_t>();
  }
  [[nodiscard]] const std::vector<float>& at(const std::string& name) const {
    return tensors.at(name).values;
  }

  /// Fills in all tensors the config asks for, with reproducible values.
  void fill(unsigned seed = 1) {
    std::mt19937 random(seed);
    const auto H = static_cast<std::uint64_t>(get("n_embd"));
    const auto I = static_cast<std::uint64_t>(get("n_inner"));
    const auto V = static_cast<std::uint64_t>(get("vocab_size"));
    const bool mq = config.value("multi_query", true);
    const std::uint64_t qkv = mq ? H + 2 * (H / static_cast<std::uint64_t>(get("n_head"))) : 3 * H;
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, double scale,
                         double offset = 0) {
      std::uint64_t count = 1;
      for (const std::uint64_t d : shape) count *= d;
      TestTensor tensor{std::move(shape), std::vector<float>(count)};
      std::normal_distribution<double> normal(offset, scale);
      for (float& v : tensor.values) v = static_cast<float>(normal(random));
      tensors[name] = std::move(tensor);
    };
    add("transformer.wte.weight", {V, H}, 0.5);
    add("transformer.wpe.weight", {static_cast<std::uint64_t>(get("n_positions")), H}, 0.3);
    for (std::int64_t n = 0; n < get("n_layer"); ++n) {
      const std::string h = "transformer.h." + std::to_string(n) + ".";
      for (const char* norm : {"ln_1", "ln_2"}) {
        add(h + norm + ".weight", {H}, 0.1, 1);
        add(h + norm + ".bias", {H}, 0.1);
      }
      const auto linear = [&](const std::string& name, std::uint64_t out, std::uint64_t in) {
        add(h + name + ".weight", {out, in}, 0.2);
        add(h + name + ".bias", {out}, 0.1);
      };
      linear("attn.c_attn", qkv, H);
      linear("attn.c_proj", H, H);
      linear("mlp.c_fc", I, H);
      linear("mlp.c_proj", H, I);
    }
    add("transformer.ln_f.weight", {H}, 0.1, 1);
    add("transformer.ln_f.bias", {H}, 0.1);
  }

  /// Writes config.json and model.safetensors.
  void save(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.json") << config.dump(1);
    io::SafeTensorsWriter writer;
    for (const auto& [name, tensor] : tensors) {
      writer.add(name, DType::float32, tensor.shape, std::as_bytes(std::span(tensor.values)));
    }
    writer.write(folder / "model.safetensors");
  }
};

/// Logits [T, vocab] in float64, straight from the definition; slow on purpose.
inline std::vector<double> reference_logits(const TestModel& m, const std::vector<int>& ids) {
  using Rows = std::vector<std::vector<double>>;
  const auto size = [&m](const char* key) { return static_cast<std::size_t>(m.get(key)); };
  const std::size_t H = size("n_embd");
  const std::size_t A = size("n_head");
  const std::size_t hd = H / A;
  const bool mq = m.config.value("multi_query", true);
  const auto linear = [&m](const Rows& x, const std::string& name) {
    const auto& w = m.at(name + ".weight");
    const auto& b = m.at(name + ".bias");
    Rows y;
    for (const auto& row : x) {
      y.emplace_back(b.begin(), b.end());
      for (std::size_t o = 0; o < b.size(); ++o) {
        for (std::size_t i = 0; i < row.size(); ++i) y.back()[o] += row[i] * w[o * row.size() + i];
      }
    }
    return y;
  };
  const auto norm = [&](const Rows& x, const std::string& name) {
    Rows y = x;
    for (auto& row : y) {
      double mean = 0;
      double var = 0;
      for (const double v : row) mean += v / static_cast<double>(H);
      for (const double v : row) var += (v - mean) * (v - mean) / static_cast<double>(H);
      for (std::size_t c = 0; c < H; ++c) {
        row[c] = (row[c] - mean) / std::sqrt(var + 1e-5) * m.at(name + ".weight")[c] +
                 m.at(name + ".bias")[c];
      }
    }
    return y;
  };
  Rows h;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    h.emplace_back();
    for (std::size_t c = 0; c < H; ++c) {
      h[t].push_back(
          double{m.at("transformer.wte.weight")[static_cast<std::size_t>(ids[t]) * H + c]} +
          double{m.at("transformer.wpe.weight")[t * H + c]});
    }
  }
  for (std::size_t n = 0; n < size("n_layer"); ++n) {
    const std::string block = "transformer.h." + std::to_string(n) + ".";
    const Rows qkv = linear(norm(h, block + "ln_1"), block + "attn.c_attn");
    Rows o(h.size(), std::vector<double>(H));
    for (std::size_t t = 0; t < h.size(); ++t) {
      for (std::size_t a = 0; a < A; ++a) {
        const std::size_t q = mq ? a * hd : 3 * a * hd;
        const std::size_t k = mq ? H : q + hd;
        std::vector<double> p;
        double sum = 0;
        for (std::size_t u = 0; u <= t; ++u) {
          double s = 0;
          for (std::size_t c = 0; c < hd; ++c) s += qkv[t][q + c] * qkv[u][k + c];
          p.push_back(std::exp(s / std::sqrt(static_cast<double>(hd))));
          sum += p.back();
        }
        for (std::size_t u = 0; u <= t; ++u) {
          for (std::size_t c = 0; c < hd; ++c) o[t][a * hd + c] += p[u] / sum * qkv[u][k + hd + c];
        }
      }
    }
    const auto add = [&h](const Rows& y) {
      for (std::size_t t = 0; t < h.size(); ++t) {
        for (std::size_t c = 0; c < y[t].size(); ++c) h[t][c] += y[t][c];
      }
    };
    add(linear(o, block + "attn.c_proj"));
    Rows inner = linear(norm(h, block + "ln_2"), block + "mlp.c_fc");
    for (auto& row : inner) {
      for (double& v : row)
        v = 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    }
    add(linear(inner, block + "mlp.c_proj"));
  }
  std::vector<double> logits;
  const bool tied = m.config.value("tie_word_embeddings", true);
  const auto& head = m.at(tied ? "transformer.wte.weight" : "lm_head.weight");
  for (const auto& row : norm(h, "transformer.ln_f")) {
    for (std::size_t v = 0; v < size("vocab_size"); ++v) {
      double s = 0;
      for (std::size_t c = 0; c < H; ++c) s += row[c] * head[v * H + c];
      logits.push_back(s);
    }
  }
  return logits;
}

}  // namespace kvant::test
