#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/checkpoint_writer.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/gguf/tensor_map.hpp"
#include "models/load/tensors.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

/// Floats that are read, converted and written at a time.

/// What transformers calls the classes of the families.
std::string model_class(std::string_view model_type) {
  static const std::map<std::string_view, std::string_view> kNames = {
      {"bert", "BertModel"},
      {"bloom", "Bloom"},
      {"falcon", "Falcon"},
      {"gemma2", "Gemma2"},
      {"gpt2", "GPT2LMHeadModel"},
      {"gpt_bigcode", "GPTBigCode"},
      {"gpt_neox", "GPTNeoX"},
      {"granite", "Granite"},
      {"llama", "Llama"},
      {"mistral", "Mistral"},
      {"mixtral", "Mixtral"},
      {"olmo2", "Olmo2"},
      {"phi3", "Phi3"},
      {"qwen2", "Qwen2"},
      {"qwen3", "Qwen3"},
      {"starcoder2", "Starcoder2"},
      {"t5", "T5ForConditionalGeneration"},
  };
  const std::string name(kNames.at(model_type));
  const bool whole = name.ends_with("Model") || name.ends_with("Generation");
  return whole ? name : name + "ForCausalLM";
}

std::string text_of(const json& value) {
  return value.dump(2, ' ', true) + "\n";
}

class Reader {
 public:
  Reader(Context& context, const std::filesystem::path& path, const FromGgufOptions& options)
      : context_(context),
        options_(options),
        file_(path),
        json_(gguf_config(file_)),
        config_(parse_config(json_.dump(), file_.name())) {
    apply_gguf_frequencies(file_, config_);
    if (!config_.rotary.divisors.empty() && !recognize_llama3(config_)) {
      throw Error(ErrorCode::unsupported,
                  file_.name() +
                      ": rope_freqs.weight holds frequencies that are not Llama 3's: "
                      "config.json cannot say them");
    }
    source_ = open_gguf_weights(path, config_);
    tensors_ = map_tensors(config_, *gguf_architecture_of(config_.model_type));
    std::erase_if(tensors_, [&](const MappedTensor& tensor) {
      return tensor.optional && !file_.contains(tensor.name);
    });
    dtype_ = options.dtype.value_or(stored_type());
    if (dtype_ != DType::float32 && dtype_ != DType::float16 && dtype_ != DType::bfloat16) {
      throw Error(ErrorCode::invalid_argument, "the dtype is " + std::string(to_string(dtype_)) +
                                                   ", not float32, float16 or bfloat16");
    }
  }

  GgufSummary run(const std::filesystem::path& folder) {
    io::CheckpointWriterOptions writer_options;
    writer_options.force = options_.job.force;
    writer_options.max_shard_size = options_.max_shard_size;
    io::CheckpointWriter writer(folder, plan(), writer_options);
    for (const MappedTensor& tensor : tensors_) {
      for (const std::string& source : tensor.sources) copy(tensor, source, writer);
    }
    writer.add_file("config.json", text_of(config_json()));
    write_tokenizer(writer);
    check_cancelled();
    writer.commit();
    summary_.architecture = file_.text("general.architecture").value_or("");
    return std::move(summary_);
  }

 private:
  /// Of the matrices, if it is one and the same that a checkpoint has, else float32.
  [[nodiscard]] DType stored_type() const {
    std::set<DType> types;
    for (const MappedTensor& tensor : tensors_) {
      if (tensor.role != MappedTensor::Role::linear) continue;
      const io::GgufTensor* stored = file_.find_gguf(tensor.name);
      if (stored != nullptr) types.insert(stored->type->dtype.value_or(DType::float32));
    }
    const bool narrow = types == std::set{DType::float16} || types == std::set{DType::bfloat16};
    return narrow ? *types.begin() : DType::float32;
  }

  /// The folder's tensors; the file's are checked on the way.
  [[nodiscard]] std::vector<io::TensorSpec> plan() {
    std::vector<io::TensorSpec> result;
    std::set<std::string> used = {"rope_freqs.weight"};
    for (const MappedTensor& tensor : tensors_) {
      const auto rows = static_cast<std::uint64_t>(tensor.rows);
      const auto cols = static_cast<std::uint64_t>(tensor.cols);
      const std::vector<std::uint64_t> stored =
          tensor.is_vector() ? std::vector{rows} : std::vector{rows, cols};
      for (const std::string& source : tensor.sources) {
        (void)require_tensor(*source_, source, stored);
        std::vector<std::uint64_t> shape = stored;
        if (tensor.transposed) shape = {cols, rows};
        result.push_back({name_of(source), dtype_, std::move(shape)});
        summary_.bytes += byte_size(result.back());
        total_ += rows * cols * sizeof(float);
      }
      require_readable(tensor.name);
      used.insert(tensor.name);
    }
    for (const io::TensorInfo& info : file_.tensors()) {
      ++summary_.tensors;
      // Old files of T5 have a table for cross attention, which no model reads.
      if (used.contains(info.name) || info.name.ends_with("cross_attn_rel_b.weight")) continue;
      throw Error(ErrorCode::unsupported, file_.name() + ": tensor " + io::in_quotes(info.name) +
                                              " is none of a " + std::string(config_.model_type) +
                                              " model: it would be lost");
    }
    return result;
  }

  /// An encoder alone is a base model, which is saved without the prefix.
  [[nodiscard]] std::string name_of(const std::string& source) const {
    const std::string_view prefix = io::find_architecture(config_.model_type)->prefix;
    const bool bare = config_.kind == ModelKind::encoder && source.starts_with(prefix);
    return bare ? source.substr(prefix.size()) : source;
  }

  void require_readable(const std::string& name) const {
    const io::GgufType& type = *file_.find_gguf(name)->type;
    if (type.dequantize != nullptr) return;
    throw Error(ErrorCode::unsupported, file_.name() + ": tensor " + io::in_quotes(name) + " is " +
                                            std::string(type.name) +
                                            ", whose values kvant does not read");
  }

  void check_cancelled() const {
    if (options_.job.cancel != nullptr && options_.job.cancel->load()) {
      throw Error(ErrorCode::cancelled, "stopped; nothing was written");
    }
  }

  void copy(const MappedTensor& tensor, const std::string& source, io::CheckpointWriter& writer) {
    if (tensor.is_vector()) {
      const std::vector<float> values = load_vector(context_, *source_, source, tensor.rows, false);
      write(source, 0, values.data(), tensor.rows, writer);
    } else if (tensor.transposed) {
      const WeightMatrix whole =
          load_transposed(context_, *source_, source, tensor.cols, tensor.rows, DType::float32);
      write(source, 0, reinterpret_cast<const float*>(whole.row_data(0)), tensor.rows * tensor.cols,
            writer);
    } else {
      const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / tensor.cols);
      for (std::int64_t row = 0; row < tensor.rows; row += step) {
        const std::int64_t count = std::min(step, tensor.rows - row);
        floats_.resize(static_cast<std::size_t>(count * tensor.cols));
        source_->read(source, row, count, floats_.data());
        write(source, row * tensor.cols, floats_.data(), count * tensor.cols, writer);
      }
    }
    source_->release(source);
  }

  void write(const std::string& name, std::int64_t first, const float* values, std::int64_t count,
             io::CheckpointWriter& writer) {
    check_cancelled();
    for (std::int64_t i = 0; dtype_ == DType::float16 && i < count; ++i) {
      if (std::fabs(values[i]) <= io::kLargestGgufValue || std::isnan(values[i])) continue;
      throw Error(ErrorCode::not_finite, io::in_quotes(name) + " holds " +
                                             std::to_string(values[i]) +
                                             ", beyond float16: take bf16 or fp32");
    }
    const std::int64_t element = describe(dtype_).bits / 8;
    converted_.resize(static_cast<std::size_t>(count * element));
    context_.kernels().convert({values, DType::float32, converted_.data(), dtype_, count});
    writer.write(name_of(name), static_cast<std::uint64_t>(first * element), converted_);
    done_ += static_cast<std::uint64_t>(count) * sizeof(float);
    if (options_.job.progress) options_.job.progress(done_, total_, name);
  }

  [[nodiscard]] json config_json() const {
    json result = json_;
    result["architectures"] = {model_class(config_.model_type)};
    result["torch_dtype"] = to_string(dtype_);
    // Some families have a default that is beyond a smaller vocabulary.
    const auto padding = file_.integer("tokenizer.ggml.padding_token_id");
    result["pad_token_id"] = padding ? json(*padding) : json();
    if (config_.rotary.scaling == RotaryScaling::llama3) {
      const Rotary& rotary = config_.rotary;
      json& rope = result["rope_parameters"];
      rope["rope_type"] = "llama3";
      rope["factor"] = rotary.factor;
      rope["low_freq_factor"] = rotary.low_frequency_factor;
      rope["high_freq_factor"] = rotary.high_frequency_factor;
      rope["original_max_position_embeddings"] = rotary.original_length;
    } else if (result.contains("rope_parameters") &&
               !result["rope_parameters"].contains("rope_type")) {
      result["rope_parameters"]["rope_type"] = "default";
    }
    return result;
  }

  void write_tokenizer(io::CheckpointWriter& writer) {
    if (!file_.has("tokenizer.ggml.tokens")) {
      summary_.warnings.push_back(
          {io::WarningKind::not_copied, file_.name() + " has no tokenizer: there is none in the "
                                                       "result"});
      return;
    }
    const json tokenizer = gguf_tokenizer(file_);
    writer.add_file("tokenizer.json", text_of(tokenizer));
    json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"clean_up_tokenization_spaces", false},
                     {"model_max_length", config_.n_positions}};
    const auto tokens = file_.texts("tokenizer.ggml.tokens");
    for (const auto& [key, member] :
         {std::pair("bos", "bos_token"), std::pair("eos", "eos_token"),
          std::pair("unknown", "unk_token"), std::pair("padding", "pad_token"),
          std::pair("seperator", "sep_token"), std::pair("mask", "mask_token")}) {
      const auto id = file_.integer(std::string("tokenizer.ggml.") + key + "_token_id");
      if (!id || *id < 0 || *id >= static_cast<std::int64_t>(tokens->size())) continue;
      const std::string_view token = (*tokens)[static_cast<std::size_t>(*id)];
      if (io::find_invalid_utf8(token) == token.size()) settings[member] = token;
    }
    const bool encoder = config_.kind == ModelKind::encoder;
    if (encoder && settings.contains("bos_token")) {  // BERT has another word for it
      settings["cls_token"] = settings["bos_token"];
      settings.erase("bos_token");
    }
    const auto chat = file_.text("tokenizer.chat_template");
    if (chat && io::find_invalid_utf8(*chat) == chat->size()) settings["chat_template"] = *chat;
    writer.add_file("tokenizer_config.json", text_of(settings));
    if (encoder) return;  // it generates nothing
    json generation = {{"_from_model_config", true}};
    for (const char* member :
         {"bos_token_id", "eos_token_id", "decoder_start_token_id", "pad_token_id"}) {
      if (json_.contains(member)) generation[member] = json_[member];
    }
    writer.add_file("generation_config.json", text_of(generation));
  }

  Context& context_;
  const FromGgufOptions& options_;
  io::Gguf file_;
  json json_;
  Config config_;
  std::unique_ptr<WeightSource> source_;
  std::vector<MappedTensor> tensors_;
  DType dtype_ = DType::float32;
  GgufSummary summary_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  std::vector<float> floats_;
  std::vector<std::byte> converted_;
};

}  // namespace

GgufSummary convert_from_gguf(Context& context, const std::filesystem::path& file,
                              const std::filesystem::path& folder, const FromGgufOptions& options) {
  return Reader(context, file, options).run(folder);
}

}  // namespace kvant::models
