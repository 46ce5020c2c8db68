// A GGUF file's tensors by the names of Hugging Face's checkpoints: as floats, or packed in the
// blocks that they are stored in.

#include <algorithm>
#include <cstring>
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

  [[nodiscard]] bool is_quantized(const std::string& name) const override {
    return blocks_of(name).has_value();
  }

  [[nodiscard]] std::optional<PackedLayer> packed(Context& context,
                                                  const std::string& name) const override {
    if (!blocks_of(name)) return std::nullopt;
    return packed_rows(context, name, {{0, place_of(name).tensor->rows}});
  }

  [[nodiscard]] std::optional<PackedLayer> packed_rows(
      Context& context, const std::string& name, const std::vector<Share>& rows) const override {
    const std::optional<GgufBlocks> type = blocks_of(name);
    if (!type) return std::nullopt;
    const auto [tensor, expert] = place_of(name);
    const GgufBlocksInfo& info = kvant::describe(*type);
    const auto row_bytes = static_cast<std::size_t>(tensor->cols / info.elements * info.bytes);
    const auto all = static_cast<std::size_t>(tensor->rows);
    std::span<const std::byte> blocks =
        file_.tensor(tensor->name)
            .data.subspan(static_cast<std::size_t>(expert) * all * row_bytes, all * row_bytes);
    std::int64_t outputs = 0;
    for (const Share& part : rows) outputs += part.size();
    std::vector<std::byte> ordered;
    if (tensor->order.kind != RowOrder::Kind::same || outputs != tensor->rows) {
      ordered.reserve(static_cast<std::size_t>(outputs) * row_bytes);
      for (const Share& part : rows) {
        for (std::int64_t r = part.begin; r < part.end; ++r) {
          const auto from = blocks.subspan(
              static_cast<std::size_t>(tensor->order.in_gguf(r)) * row_bytes, row_bytes);
          ordered.insert(ordered.end(), from.begin(), from.end());
        }
      }
      blocks = ordered;
    }
    count_bytes(static_cast<std::uint64_t>(outputs) * row_bytes);
    try {
      return PackedLayer{PackedWeights::from_blocks(context, *type, outputs, tensor->cols, blocks)};
    } catch (const Error& error) {
      throw_of_file(file_.name() + ": tensor " + io::in_quotes(tensor->name), error);
    }
  }

  [[nodiscard]] std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const io::TensorInfo& info : file_.tensors()) {
      const auto mapped =
          std::find_if(tensors_.begin(), tensors_.end(),
                       [&](const MappedTensor& tensor) { return tensor.name == info.name; });
      names.push_back(mapped == tensors_.end() ? info.name : mapped->sources.front());
    }
    return names;
  }

  [[nodiscard]] std::uint64_t bytes_beside(const std::set<std::string>& layers) const override {
    std::set<std::string> of_weights;
    for (const MappedTensor& tensor : tensors_) {
      for (std::string layer : tensor.sources) {
        if (!layer.ends_with(kWeight)) continue;
        layer.resize(layer.size() - kWeight.size());
        if (layers.contains(layer)) of_weights.insert(tensor.name);
      }
    }
    std::uint64_t bytes = 0;
    for (const io::TensorInfo& info : file_.tensors()) {
      if (!of_weights.contains(info.name)) bytes += info.bytes;
    }
    return bytes;
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

  /// The blocks of a matrix of the shape that the model gives it; nothing where products want
  /// floats.
  [[nodiscard]] std::optional<GgufBlocks> blocks_of(const std::string& name) const {
    const auto it = places_.find(name);
    if (it == places_.end()) return std::nullopt;
    const MappedTensor& tensor = *it->second.tensor;
    const io::GgufTensor* stored = file_.find_gguf(tensor.name);
    if (stored == nullptr || tensor.is_vector()) return std::nullopt;
    std::uint64_t rows = 1;  // of all experts
    for (std::size_t i = 0; i + 1 < stored->shape.size(); ++i) rows *= stored->shape[i];
    const bool fits = stored->shape.size() >= 2 &&
                      stored->shape.back() == static_cast<std::uint64_t>(tensor.cols) &&
                      rows == static_cast<std::uint64_t>(tensor.rows) * tensor.sources.size();
    return fits ? gguf_blocks_from_name(stored->type->name) : std::nullopt;
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

bool holds_blocks(const io::Gguf& file) {
  const auto tensors = file.tensors();
  return std::any_of(tensors.begin(), tensors.end(), [&](const auto& tensor) {
    return gguf_blocks_from_name(file.find_gguf(tensor.name)->type->name).has_value();
  });
}

bool holds_table_blocks(const io::Gguf& file) {
  const io::GgufTensor* table = file.find_gguf("token_embd.weight");
  return table != nullptr && gguf_blocks_from_name(table->type->name).has_value();
}

bool is_gguf(const std::filesystem::path& path) {
  return io::has_gguf_name(path) || io::starts_as_gguf(path);
}

std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& path,
                                                const Config& config) {
  return std::make_unique<GgufWeights>(path, config);
}

}  // namespace kvant::models
