// A GGUF file's tensors by the names of Hugging Face's checkpoints.

#include <unordered_map>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/gguf/tensor_map.hpp"

namespace kvant::models {
namespace {

class GgufWeights final : public WeightSource {
 public:
  GgufWeights(const std::filesystem::path& path, const Config& config)
      : file_(path), tensors_(map_tensors(config, architecture_of(config))) {
    for (const MappedTensor& tensor : tensors_) {
      for (std::size_t e = 0; e < tensor.sources.size(); ++e) {
        places_.emplace(tensor.sources[e], Place{&tensor, static_cast<std::int64_t>(e)});
      }
    }
  }

  [[nodiscard]] bool contains(const std::string& name) const override {
    const auto it = places_.find(name);
    return it != places_.end() && file_.contains(it->second.tensor->name);
  }

  [[nodiscard]] SourceTensor describe(const std::string& name) const override {
    const MappedTensor& tensor = *place_of(name).tensor;
    (void)file_.tensor(tensor.name);  // throws if it is missing
    std::vector<std::uint64_t> shape = file_.find_gguf(tensor.name)->shape;
    // All experts are one tensor; of any other shape, it is for who compares shapes to say so.
    if (shape.size() == 3 && tensor.sources.size() == shape[0]) shape.erase(shape.begin());
    return {std::move(shape), DType::float32};
  }

  void read(const std::string& name, std::int64_t first, std::int64_t count,
            void* out) const override {
    const auto [tensor, expert] = place_of(name);
    auto* floats = static_cast<float*>(out);
    const auto rows = static_cast<std::uint64_t>(tensor->is_vector() ? 1 : tensor->rows);
    count_bytes(file_.find(tensor->name)->bytes / (rows * tensor->sources.size()) *
                static_cast<std::uint64_t>(count));
    if (tensor->is_vector()) {
      read_vector(*tensor, floats);
      return;
    }
    const std::int64_t begin = expert * tensor->rows;
    if (tensor->order.kind == RowOrder::Kind::same) {
      file_.dequantize(tensor->name, begin + first, count, floats);
      return;
    }
    for (std::int64_t r = 0; r < count; ++r) {
      file_.dequantize(tensor->name, begin + tensor->order.in_gguf(first + r), 1,
                       floats + r * tensor->cols);
    }
  }

  void release(const std::string& name) const override {
    file_.release(place_of(name).tensor->name);
  }
  [[nodiscard]] bool keeps_transposed() const override { return false; }

 private:
  struct Place {
    const MappedTensor* tensor;
    std::int64_t expert;
  };

  static const GgufArchitecture& architecture_of(const Config& config) {
    const GgufArchitecture* found = gguf_architecture_of(config.model_type);
    if (found != nullptr) return *found;
    throw Error(ErrorCode::unsupported,
                "no GGUF file holds a model of the type " + std::string(config.model_type));
  }

  [[nodiscard]] const Place& place_of(const std::string& name) const {
    const auto it = places_.find(name);
    if (it != places_.end()) return it->second;
    throw Error(ErrorCode::invalid_argument,
                file_.name() + ": there is no tensor for " + io::in_quotes(name));
  }

  void read_vector(const MappedTensor& tensor, float* out) const {
    std::vector<float> all(static_cast<std::size_t>(tensor.rows));
    file_.dequantize(tensor.name, 0, 1, all.data());
    for (std::int64_t i = 0; i < tensor.rows; ++i) {
      out[tensor.order.in_folder(i)] = all[static_cast<std::size_t>(i)] - tensor.offset;
    }
  }

  io::Gguf file_;
  std::vector<MappedTensor> tensors_;
  std::unordered_map<std::string, Place> places_;
};

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  return io::has_gguf_name(path) || io::starts_as_gguf(path);
}

std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& path,
                                                const Config& config) {
  return std::make_unique<GgufWeights>(path, config);
}

}  // namespace kvant::models
