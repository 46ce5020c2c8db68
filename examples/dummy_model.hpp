#pragma once

// DummyModel: a two-by-two toy network whose parameters can be cast from type to type, to see what
// a smaller dtype does to a model's answers and to its memory.
//
// Arithmetic follows the common CPU kernels: every layer computes in float and rounds its output
// once to the model's dtype.

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <kvant/dtype.hpp>
#include <kvant/io/safetensors.hpp>
#include <string>
#include <utility>
#include <vector>

namespace dummy {

/// Parameters of element type T: float, kvant::float16 or kvant::bfloat16.
template <class T>
class DummyModel {
 public:
  struct Parameter {
    std::string name;
    std::vector<std::uint64_t> shape;
    std::vector<T> values;
  };

  /// Reads all parameters of a file, which must be of type T.
  explicit DummyModel(const std::filesystem::path& path) {
    const kvant::io::SafeTensors file(path);
    for (const auto& info : file.tensors()) {
      parameters_.push_back({info.name, info.shape, file.values<T>(info.name)});
    }
  }

  /// An independent copy with every parameter rounded to U.
  template <class U>
  [[nodiscard]] DummyModel<U> cast() const {
    DummyModel<U> copy;
    for (const Parameter& p : parameters_) {
      std::vector<U> values;
      for (const T value : p.values) values.push_back(U(static_cast<float>(value)));
      copy.parameters_.push_back({p.name, p.shape, std::move(values)});
    }
    return copy;
  }

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] std::vector<Parameter>& parameters() { return parameters_; }

  /// Bytes of all parameters. A cast changes the floating point ones, and this model has no others.
  [[nodiscard]] std::size_t memory_footprint() const {
    std::size_t bytes = 0;
    for (const Parameter& p : parameters_) bytes += p.values.size() * sizeof(T);
    return bytes;
  }

  /// Logits of each id, one after the other. With `trace`, the value after every layer joins it.
  [[nodiscard]] std::vector<float> forward(
      const std::vector<std::int64_t>& ids,
      std::vector<std::pair<std::string, std::vector<float>>>* trace = nullptr) const {
    const std::vector<T>& table = values("token_embedding.weight");
    std::vector<float> x;
    for (const std::int64_t id : ids) {
      for (std::size_t c = 0; c < kWidth; ++c) {
        x.push_back(static_cast<float>(table.at(static_cast<std::size_t>(id) * kWidth + c)));
      }
    }
    const auto note = [&](const char* layer) {
      if (trace != nullptr) trace->emplace_back(layer, x);
    };
    note("token_embedding");
    for (const char* layer : {"linear_1", "layernorm_1", "linear_2", "layernorm_2", "head"}) {
      x = layer[1] == 'a' ? layer_norm(x, layer) : linear(x, layer);
      note(layer);
    }
    return x;
  }

 private:
  template <class U>
  friend class DummyModel;
  static constexpr std::size_t kWidth = 2;

  DummyModel() = default;

  static float rounded(float value) { return static_cast<float>(T(value)); }

  [[nodiscard]] const std::vector<T>& values(const std::string& name) const {
    for (const Parameter& p : parameters_) {
      if (p.name == name) return p.values;
    }
    throw kvant::Error(kvant::ErrorCode::invalid_argument, "no parameter " + name);
  }

  [[nodiscard]] std::vector<float> linear(const std::vector<float>& x,
                                          const std::string& name) const {
    const std::vector<T>& w = values(name + ".weight");
    const std::vector<T>& b = values(name + ".bias");
    std::vector<float> y;
    for (std::size_t row = 0; row < x.size(); row += kWidth) {
      for (std::size_t o = 0; o < kWidth; ++o) {
        float sum = static_cast<float>(b.at(o));
        for (std::size_t i = 0; i < kWidth; ++i) {
          sum += x[row + i] * static_cast<float>(w.at(o * kWidth + i));
        }
        y.push_back(rounded(sum));
      }
    }
    return y;
  }

  [[nodiscard]] std::vector<float> layer_norm(const std::vector<float>& x,
                                              const std::string& name) const {
    constexpr float kEpsilon = 1e-5f;
    const std::vector<T>& w = values(name + ".weight");
    const std::vector<T>& b = values(name + ".bias");
    std::vector<float> y;
    for (std::size_t row = 0; row < x.size(); row += kWidth) {
      const float mean = (x[row] + x[row + 1]) / 2;
      const float d0 = x[row] - mean;
      const float d1 = x[row + 1] - mean;
      const float scale = 1.0f / std::sqrt((d0 * d0 + d1 * d1) / 2 + kEpsilon);
      for (std::size_t c = 0; c < kWidth; ++c) {
        y.push_back(rounded((x[row + c] - mean) * scale * static_cast<float>(w.at(c)) +
                            static_cast<float>(b.at(c))));
      }
    }
    return y;
  }

  std::vector<Parameter> parameters_;
};

}  // namespace dummy
