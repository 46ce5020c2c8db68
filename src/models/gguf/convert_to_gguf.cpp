#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "io/json/json_tree.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/gguf/sources.hpp"
#include "models/gguf/tensor_map.hpp"
#include "models/load/tensors.hpp"
#include "models/parallel.hpp"
#include "models/text/vocabulary_file.hpp"

namespace kvant::models {
namespace {

/// Floats that are read, quantized and written at a time.

/// A type that linear layers may become.
struct OutputType {
  std::string_view name;
  std::uint32_t file_type;    ///< general.file_type
  std::string_view tables;    ///< of embeddings and heads
  std::string_view fallback;  ///< where its block does not divide a row
};

constexpr std::array<OutputType, 11> kTypes = {{
    {"f32", 0, "f32", ""},
    {"f16", 1, "f16", ""},
    {"bf16", 32, "bf16", ""},
    {"q8_0", 7, "q8_0", "f16"},
    {"q4_0", 2, "q8_0", "f16"},
    {"q4_1", 3, "q8_0", "f16"},
    {"q5_0", 8, "q8_0", "f16"},
    {"q5_1", 9, "q8_0", "f16"},
    {"q4_k", 14, "q6_k", "q5_0"},
    {"q5_k", 16, "q6_k", "q5_1"},
    {"q6_k", 18, "q6_k", "q8_0"},
}};

const OutputType* find_type(std::string_view name) {
  const auto* it = std::find_if(kTypes.begin(), kTypes.end(),
                                [&](const OutputType& type) { return type.name == name; });
  return it == kTypes.end() ? nullptr : it;
}

const OutputType& require_type(const std::string& name) {
  const OutputType* found = find_type(name);
  if (found != nullptr) return *found;
  throw Error(ErrorCode::invalid_argument,
              "the type " + io::in_quotes(name) + " is not one of " + gguf_type_names());
}

class Writer {
 public:
  Writer(Context& context, const std::filesystem::path& model, const std::filesystem::path& output,
         const ToGgufOptions& options)
      : context_(context),
        options_(options),
        type_(require_type(options.type)),
        files_(model),
        architecture_(require_gguf_architecture(files_.config(), model.string())),
        source_(open_float_weights(model, files_.config())),
        tensors_(map_tensors(files_.config(), architecture_)),
        writer_(output) {}

  GgufSummary run() {
    find_sources(*source_, config(), files_.path().string(), tensors_, summary_.warnings);
    write_general();
    write_gguf_config(files_.config(), architecture_, writer_);
    if (options_.tokenizer) write_tokenizer();
    plan_tensors();
    writer_.begin();
    write_frequencies();
    for (const MappedTensor& tensor : tensors_) write_tensor(tensor);
    check_cancelled();
    writer_.commit(options_.job.force ? io::AtomicFile::Existing::replace
                                      : io::AtomicFile::Existing::keep);
    summary_.architecture = architecture_.name;
    summary_.bytes = writer_.tensor_bytes();
    return std::move(summary_);
  }

 private:
  [[nodiscard]] const Config& config() const { return files_.config(); }

  void warn(io::WarningKind kind, std::string text) {
    summary_.warnings.push_back({kind, std::move(text)});
  }

  void write_general() {
    const std::filesystem::path& path = files_.path();
    std::string name = path.stem().string();
    if (name.empty()) name = path.parent_path().filename().string();
    if (io::find_invalid_utf8(name) == name.size()) writer_.set("general.name", name);
    writer_.set("general.file_type", type_.file_type);
    constexpr std::uint32_t kQuantizationVersion = 2;
    writer_.set("general.quantization_version", kQuantizationVersion);
  }

  void write_tokenizer() {
    if (is_gguf(files_.path())) {
      const io::Gguf file(files_.path());
      if (!file.has("tokenizer.ggml.tokens")) {
        warn(io::WarningKind::not_copied, file.name() + " has no tokenizer");
        return;
      }
      copy_gguf_tokenizer(file, writer_);  // the template is among the keys
      return;
    }
    const std::filesystem::path path = files_.path() / "tokenizer.json";
    const std::filesystem::path lines = files_.path() / "vocab.txt";
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored) && std::filesystem::exists(lines, ignored)) {
      write_gguf_tokenizer(word_piece_tokenizer(files_.path()), lines.string(), config(), writer_,
                           summary_.warnings);
      return;
    }
    if (!std::filesystem::exists(path, ignored)) {
      warn(io::WarningKind::not_copied,
           files_.path().string() + " has no tokenizer.json: the result has no tokenizer");
      return;
    }
    constexpr std::uint64_t kLargestTokenizer = 256u << 20;
    write_gguf_tokenizer(io::read_json_tree(path, kLargestTokenizer), path.string(), config(),
                         writer_, summary_.warnings);
    if (!files_.chat_template().empty()) {
      writer_.set("tokenizer.chat_template", files_.chat_template());
    }
  }

  /// What a tensor becomes.
  [[nodiscard]] const io::GgufType& type_of(const MappedTensor& tensor) const {
    std::string_view name = type_.name;
    switch (tensor.role) {
      case MappedTensor::Role::vector:
      case MappedTensor::Role::router:
      case MappedTensor::Role::positions: name = "f32"; break;
      case MappedTensor::Role::tokens:
      case MappedTensor::Role::head: name = type_.tables; break;
      case MappedTensor::Role::linear: break;
    }
    while (tensor.cols % io::find_gguf_type(name)->elements != 0 && !tensor.is_vector()) {
      name = find_type(name)->fallback;
    }
    return *io::find_gguf_type(name);
  }

  void plan_tensors() {
    if (has_frequencies()) {
      writer_.add_tensor("rope_freqs.weight", *io::find_gguf_type("f32"),
                         {static_cast<std::uint64_t>(config().rotary.dims / 2)});
      ++summary_.tensors;
    }
    std::int64_t narrow = 0;
    for (const MappedTensor& tensor : tensors_) {
      const auto rows = static_cast<std::uint64_t>(tensor.rows);
      const auto cols = static_cast<std::uint64_t>(tensor.cols);
      std::vector<std::uint64_t> shape = {rows, cols};
      if (tensor.is_vector()) shape = {rows};
      if (tensor.sources.size() > 1) shape.insert(shape.begin(), tensor.sources.size());
      const io::GgufType& type = type_of(tensor);
      narrow +=
          tensor.role == MappedTensor::Role::linear && &type != io::find_gguf_type(type_.name);
      writer_.add_tensor(tensor.name, type, std::move(shape));
      total_ += static_cast<std::uint64_t>(tensor.rows * tensor.cols) * tensor.sources.size() *
                sizeof(float);
      ++summary_.tensors;
    }
    if (narrow > 0) {
      warn(io::WarningKind::nothing_quantized,
           std::to_string(narrow) + " linear layers have rows that blocks of " +
               std::string(type_.name) + " do not divide: they become " +
               std::string(type_.fallback) + " or larger");
    }
  }

  [[nodiscard]] bool has_frequencies() const {
    return config().positions == Positions::rotary &&
           (config().rotary.scaling == RotaryScaling::llama3 || !config().rotary.divisors.empty());
  }

  void write_frequencies() {
    if (!has_frequencies()) return;
    const std::vector<float> divisors = config().rotary.divisors.empty()
                                            ? llama3_divisors(config().rotary)
                                            : config().rotary.divisors;
    writer_.write("rope_freqs.weight", 0, std::as_bytes(std::span(divisors)));
  }

  void check_cancelled() const {
    if (options_.job.cancel != nullptr && options_.job.cancel->load()) {
      throw Error(ErrorCode::cancelled, "stopped; nothing was written");
    }
  }

  void write_tensor(const MappedTensor& tensor) {
    const io::GgufType& type = type_of(tensor);
    if (tensor.is_vector()) {
      write_vector(tensor, type);
      return;
    }
    const auto row_bytes = static_cast<std::uint64_t>(tensor.cols / type.elements) * type.bytes;
    std::uint64_t offset = 0;
    for (const std::string& source : tensor.sources) {
      WeightMatrix whole;  // only where the folder has it the other way
      if (tensor.transposed) {
        whole =
            load_transposed(context_, *source_, source, tensor.rows, tensor.cols, DType::float32);
      }
      const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / tensor.cols);
      for (std::int64_t row = 0; row < tensor.rows; row += step) {
        check_cancelled();
        const std::int64_t count = std::min(step, tensor.rows - row);
        const float* values = tensor.transposed ? whole_rows(whole, tensor, row, count)
                                                : read_rows(tensor, source, row, count);
        blocks_.resize(static_cast<std::size_t>(static_cast<std::uint64_t>(count) * row_bytes));
        quantize(tensor, type, values, count);
        writer_.write(tensor.name, offset, blocks_);
        offset += blocks_.size();
        report(count * tensor.cols, tensor.name);
      }
      source_->release(source);
    }
  }

  const float* whole_rows(const WeightMatrix& whole, const MappedTensor& tensor, std::int64_t row,
                          std::int64_t count) {
    if (tensor.order.kind == RowOrder::Kind::same) {
      return reinterpret_cast<const float*>(whole.row_data(row));
    }
    floats_.resize(static_cast<std::size_t>(count * tensor.cols));
    for (std::int64_t r = 0; r < count; ++r) {
      const auto* from =
          reinterpret_cast<const float*>(whole.row_data(tensor.order.in_folder(row + r)));
      std::copy(from, from + tensor.cols, floats_.data() + r * tensor.cols);
    }
    return floats_.data();
  }

  /// Rows of the result, from the rows of the source, as floats.
  const float* read_rows(const MappedTensor& tensor, const std::string& source, std::int64_t row,
                         std::int64_t count) {
    const DType dtype = source_->describe(source).dtype;
    const std::int64_t row_bytes = tensor.cols * (describe(dtype).bits / 8);
    stored_.resize(static_cast<std::size_t>(count * row_bytes));
    if (tensor.order.kind == RowOrder::Kind::same) {
      source_->read(source, tensor.first_row + row, count, stored_.data());
    } else {
      for (std::int64_t r = 0; r < count; ++r) {
        source_->read(source, tensor.order.in_folder(row + r), 1, stored_.data() + r * row_bytes);
      }
    }
    floats_.resize(static_cast<std::size_t>(count * tensor.cols));
    context_.kernels().convert(
        {stored_.data(), dtype, floats_.data(), DType::float32, count * tensor.cols});
    return floats_.data();
  }

  void quantize(const MappedTensor& tensor, const io::GgufType& type, const float* values,
                std::int64_t rows) {
    const auto row_bytes =
        static_cast<std::int64_t>(blocks_.size()) / std::max<std::int64_t>(1, rows);
    constexpr std::int64_t kOperationsPerValue = 100;
    parallel_tasks(context_, rows, rows * tensor.cols * kOperationsPerValue, [&](std::int64_t r) {
      quantize_gguf(type, values + r * tensor.cols, 1, tensor.cols, blocks_.data() + r * row_bytes,
                    tensor.name);
    });
  }

  void write_vector(const MappedTensor& tensor, const io::GgufType& type) {
    const std::vector<float> stored =
        load_vector(context_, *source_, tensor.sources.front(), tensor.rows, false);
    std::vector<float> values(stored.size());
    for (std::int64_t i = 0; i < tensor.rows; ++i) {
      values[static_cast<std::size_t>(i)] =
          stored[static_cast<std::size_t>(tensor.order.in_folder(i))] + tensor.offset;
    }
    blocks_.resize(values.size() * sizeof(float));
    quantize_gguf(type, values.data(), 1, tensor.rows, blocks_.data(), tensor.name);
    writer_.write(tensor.name, 0, blocks_);
    report(tensor.rows, tensor.name);
  }

  void report(std::int64_t values, const std::string& name) {
    done_ += static_cast<std::uint64_t>(values) * sizeof(float);
    if (options_.job.progress) options_.job.progress(done_, total_, name);
  }

  Context& context_;
  const ToGgufOptions& options_;
  const OutputType& type_;
  ModelFiles files_;
  const GgufArchitecture& architecture_;
  std::unique_ptr<WeightSource> source_;
  std::vector<MappedTensor> tensors_;
  io::GgufWriter writer_;
  GgufSummary summary_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  std::vector<std::byte> stored_;
  std::vector<float> floats_;
  std::vector<std::byte> blocks_;
};

}  // namespace

std::string gguf_type_names() {
  std::string names;
  for (const OutputType& type : kTypes) names.append(names.empty() ? "" : ", ").append(type.name);
  return names;
}

GgufSummary convert_to_gguf(Context& context, const std::filesystem::path& model,
                            const std::filesystem::path& output, const ToGgufOptions& options) {
  (void)require_type(options.type);
  std::error_code error;
  if (std::filesystem::equivalent(model, output, error) && !error) {
    throw Error(ErrorCode::invalid_argument, output.string() + " is the model itself");
  }
  if (std::filesystem::exists(output, error)) {
    if (!options.job.force) {
      throw Error(ErrorCode::io, output.string() + " exists already; --force replaces it");
    }
    if (!io::starts_as_gguf(output)) {
      throw Error(ErrorCode::io,
                  output.string() + " exists and is no GGUF file, which alone would be replaced");
    }
  }
  return Writer(context, model, output, options).run();
}

}  // namespace kvant::models
