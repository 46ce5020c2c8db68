// Weights of a folder. Float tensors are read as they are; layers that are stored quantized, in any
// form that kvant::io reads, are packed as they are, or expanded to float32.

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/matrix.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/load/packed_rows.hpp"
#include "models/load/weight_source.hpp"
#include "models/parallel.hpp"

namespace kvant::models {
namespace {

/// Codes may lie input by input: few enough rows that each has a cache line at hand, and whole
/// words of the forms that hold several outputs in one.
constexpr std::int64_t kRowsTogether = 64;

class CheckpointWeights final : public WeightSource {
 public:
  CheckpointWeights(const std::filesystem::path& path, const Config& config, bool expand)
      : checkpoint_(path, {.allow_missing = true}), expands_(expand) {
    if (!expand) return;
    hints_.model_type = config.model_type;
    hints_.vocabulary = static_cast<std::uint64_t>(config.vocab_size);
    hints_.quant_method = "";  // a quantized one, whichever it is
    for (io::StoredLayer& layer : io::find_linear_layers(checkpoint_, hints_)) {
      if (layer.quantized()) quantized_.emplace(layer.name + std::string(kWeight), layer);
    }
  }

  [[nodiscard]] bool contains(const std::string& name) const override {
    return quantized_.contains(name) || checkpoint_.contains(name);
  }

  [[nodiscard]] SourceTensor describe(const std::string& name) const override {
    if (const auto it = quantized_.find(name); it != quantized_.end()) {
      return {{static_cast<std::uint64_t>(it->second.outputs),
               static_cast<std::uint64_t>(it->second.inputs)},
              DType::float32};
    }
    const io::TensorInfo& info = tensor_info(name);
    if (info.dtype != DType::float32 && info.dtype != DType::float16 &&
        info.dtype != DType::bfloat16) {
      refuse_broken(name);
      throw Error(ErrorCode::unsupported, "tensor \"" + name + "\" is " +
                                              std::string(to_string(info.dtype)) +
                                              ", not float32, float16 or bfloat16");
    }
    return {info.shape, info.dtype};
  }

  void read(const std::string& name, std::int64_t first, std::int64_t count,
            void* out) const override {
    if (const auto it = quantized_.find(name); it != quantized_.end()) {
      if (reading_ != name) {
        reader_.emplace(checkpoint_, it->second);
        reading_ = name;
      }
      reader_->read(first, count, static_cast<float*>(out));
      count_rows(it->second, count);
      return;
    }
    const io::TensorView tensor = checkpoint_.tensor(name);
    const std::vector<std::uint64_t>& shape = tensor.info->shape;
    const std::uint64_t rows = shape.size() == 2 ? shape[0] : 1;
    const std::uint64_t row_bytes = rows == 0 ? 0 : tensor.info->bytes / rows;
    const std::uint64_t bytes = static_cast<std::uint64_t>(count) * row_bytes;
    std::memcpy(out, tensor.data.data() + static_cast<std::uint64_t>(first) * row_bytes,
                static_cast<std::size_t>(bytes));
    count_bytes(bytes);
  }

  void read_columns(const std::string& name, std::int64_t row, std::int64_t first,
                    std::int64_t count, void* out) const override {
    if (quantized_.contains(name)) {
      WeightSource::read_columns(name, row, first, count, out);
      return;
    }
    const io::TensorView tensor = checkpoint_.tensor(name);
    const auto size = static_cast<std::uint64_t>(kvant::describe(tensor.info->dtype).bits / 8);
    const std::uint64_t at = static_cast<std::uint64_t>(row) * tensor.info->shape.back() +
                             static_cast<std::uint64_t>(first);
    const std::uint64_t bytes = static_cast<std::uint64_t>(count) * size;
    std::memcpy(out, tensor.data.data() + at * size, static_cast<std::size_t>(bytes));
    count_bytes(bytes);
  }

  [[nodiscard]] std::optional<QuantParams> input_params(const std::string& name) const override {
    const auto it = quantized_.find(name);
    if (it == quantized_.end()) return std::nullopt;
    return io::input_params(checkpoint_, it->second);
  }

  [[nodiscard]] std::optional<PackedLayer> packed(Context& context,
                                                  const std::string& name) const override {
    const auto it = quantized_.find(name);
    if (it == quantized_.end()) return std::nullopt;
    return packed_rows(context, name, {{0, it->second.outputs}});
  }

  [[nodiscard]] std::optional<PackedLayer> packed_rows(
      Context& context, const std::string& name, const std::vector<Share>& rows) const override {
    const auto it = quantized_.find(name);
    if (it == quantized_.end()) return std::nullopt;
    const io::StoredLayer& layer = it->second;
    const io::LayerReader reader(checkpoint_, layer);
    std::optional<io::LayerCodes> stored = reader.codes();
    if (!stored) return std::nullopt;
    std::int64_t outputs = 0;
    for (const Share& part : rows) outputs += part.size();
    Matrix<std::uint8_t> codes(outputs, layer.inputs);
    std::int64_t to = 0;
    for (const Share& part : rows) {
      const std::int64_t tasks = (part.size() + kRowsTogether - 1) / kRowsTogether;
      parallel_tasks(context, tasks, part.size() * layer.inputs, [&](std::int64_t task) {
        const std::int64_t first = task * kRowsTogether;
        reader.read_codes(part.begin + first, std::min(kRowsTogether, part.size() - first),
                          codes.data() + (to + first) * layer.inputs);
      });
      to += part.size();
    }
    count_rows(layer, outputs);
    if (outputs < layer.outputs) {
      take_scales(stored->format, layer.inputs, stored->block, rows, stored->scales,
                  stored->zero_points);
    }
    try {
      return PackedLayer{
          PackedWeights::from_codes(context, {.format = stored->format,
                                              .codes = MatrixView<const std::uint8_t>(codes),
                                              .scales = stored->scales,
                                              .zero_points = stored->zero_points,
                                              .block = stored->block}),
          std::move(stored->order)};
    } catch (const Error& error) {
      throw_of_file("layer " + io::in_quotes(layer.name), error);
    }
  }

  [[nodiscard]] bool is_quantized(const std::string& name) const override {
    return quantized_.contains(name);
  }

  [[nodiscard]] std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const io::TensorInfo* info : checkpoint_.tensors()) names.push_back(info->name);
    return names;
  }

  [[nodiscard]] std::uint64_t bytes_beside(const std::set<std::string>& layers) const override {
    std::uint64_t bytes = 0;
    for (const io::TensorInfo* info : checkpoint_.tensors()) {
      bool of_weight = false;  // LAYER.weight, LAYER.qweight, LAYER.weight.absmax, ...
      for (std::size_t dot = info->name.find('.'); dot != std::string::npos;
           dot = info->name.find('.', dot + 1)) {
        of_weight = of_weight || (layers.contains(info->name.substr(0, dot)) &&
                                  info->name.substr(dot) != ".bias");
      }
      if (!of_weight) bytes += info->bytes;
    }
    return bytes;
  }

  void release(const std::string& name) const override {
    const auto it = quantized_.find(name);
    const std::string& tensor = it == quantized_.end() ? name : it->second.tensor;
    if (checkpoint_.contains(tensor)) checkpoint_.release(tensor);
  }
  [[nodiscard]] const io::Checkpoint* checkpoint() const override { return &checkpoint_; }

 private:
  /// Some outputs of a layer, of all the bytes that it has.
  void count_rows(const io::StoredLayer& layer, std::int64_t rows) const noexcept {
    const std::uint64_t bytes = checkpoint_.find(layer.tensor)->bytes;
    count_bytes(bytes / static_cast<std::uint64_t>(std::max<std::int64_t>(1, layer.outputs)) *
                static_cast<std::uint64_t>(rows));
  }
  [[nodiscard]] const io::TensorInfo& tensor_info(const std::string& name) const {
    try {
      return *checkpoint_.tensor(name).info;
    } catch (const Error& error) {  // the folder's fault, not the caller's
      refuse_broken(name);
      throw io::FormatError(io::FormatErrorKind::missing_tensor, error.what());
    }
  }
  /// A quantized layer that was not recognised: what is wrong with the tensors that it has.
  void refuse_broken(const std::string& name) const {
    if (!expands_ || !name.ends_with(kWeight)) return;
    const std::string why =
        io::broken_layer(checkpoint_, name.substr(0, name.size() - kWeight.size()), hints_);
    if (!why.empty()) throw io::FormatError(io::FormatErrorKind::bad_scales, why);
  }

  io::Checkpoint checkpoint_;
  io::ModelHints hints_;
  bool expands_;
  std::map<std::string, io::StoredLayer> quantized_;
  mutable std::optional<io::LayerReader> reader_;  // of the layer that was read last
  mutable std::string reading_;
};

}  // namespace

std::unique_ptr<WeightSource> open_weights(const std::filesystem::path& path,
                                           const Config& config) {
  if (is_gguf(path)) return open_gguf_weights(path, config);
  return std::make_unique<CheckpointWeights>(path, config, config.stored_quantized);
}

std::unique_ptr<WeightSource> open_float_weights(const std::filesystem::path& path,
                                                 const Config& config) {
  if (is_gguf(path)) return open_gguf_weights(path, config);
  const bool expand = config.stored_quantized || config.int8;
  return std::make_unique<CheckpointWeights>(path, config, expand);
}

}  // namespace kvant::models
