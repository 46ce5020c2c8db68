#pragma once

/// @file
/// Quantizing a model folder in Hugging Face form into another one, and back, without Python and
/// without ever holding the model: memory is a few megabytes per thread, whatever its size (and one
/// tensor as stored where GPT-2 stores it transposed).
///
///     kvant::io::quantize_checkpoint("model", "model-int8");
///     kvant::io::quantize_checkpoint("model", "model-mix", {
///         .scheme = kvant::io::WeightScheme::llm_int8,
///         .rules = {{"*.h.0.*", kvant::io::WeightScheme::fp16}},
///         .job = {.force = true}});
///
/// The result loads in transformers as a bitsandbytes 8-bit or 4-bit model: codes and scales are
/// that library's own, byte for byte. int8_checkpoint.hpp describes the tensors of 8 bits.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/checkpoint_writer.hpp"
#include "kvant/io/finding.hpp"
#include "kvant/io/layer_encoder.hpp"
#include "kvant/io/weight_scheme.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/ranks.hpp"

namespace kvant::io {

/// Layers whose full name matches a pattern (glob.hpp).
struct LayerRule {
  std::string pattern;
  WeightScheme scheme = WeightScheme::keep;
};

/// What long jobs share.
struct JobOptions {
  std::uint64_t max_shard_size = kDefaultShardSize;
  bool force = false;  ///< replace an output folder that is there (empty or a checkpoint)
  /// Threads that read, compute and write; 0: all, and at least two, so that these overlap.
  int threads = 0;
  /// Kernels and threads of the caller; null: the best kernels of this machine, and `threads`
  /// threads. Its workspace is not used.
  const Context* context = nullptr;
  /// Processes that share the work, each with the same call: every one makes some of the tensors,
  /// and rank 0 writes the result, byte for byte that of one process. Null: this process alone.
  Ranks* ranks = nullptr;
  /// Set to true from anywhere (a signal handler) to stop: Error cancelled, nothing is left.
  const std::atomic<bool>* cancel = nullptr;
  /// Bytes of the source that are done, of how many, and the tensor just worked on. Called from the
  /// working threads, one call at a time.
  std::function<void(std::uint64_t done, std::uint64_t total, std::string_view tensor)> progress =
      {};
};

/// How quantize_checkpoint goes about it.
struct QuantizeCheckpointOptions {
  /// Of all linear layers that no rule names. The float schemes also convert the other tensors.
  WeightScheme scheme = WeightScheme::llm_int8;
  /// The last rule that matches a layer decides; {pattern, keep} skips. A pattern that matches no
  /// linear layer is an error.
  std::vector<LayerRule> rules = {};
  float threshold = 6.0f;  ///< llm_int8_threshold; int8 writes 0
  /// Weights that share a scale in nf4 and fp4 (32, 64, 128, ..., 4096) and in int4 (a multiple of
  /// 32 inputs, or -1: all those of an output); 0: 64.
  std::int64_t block = 0;
  bool zero_points = true;  ///< int4: a zero point beside each scale (affine); false: symmetric
  /// int4: whose form, "gptq" (version 2) or "awq" (gemm); empty: gptq. int2, int3, int8-group:
  /// "gptq". int8: "compressed-tensors" (int-quantized); empty: bitsandbytes.
  std::string quant_method = {};
  /// nf4 and fp4: scales are quantized too ("double quantization"): 4.13 instead of 4.5 bits.
  bool nested = true;
  /// Layer -> ascending input features whose weights are kept in half precision beside the codes.
  std::map<std::string, std::vector<std::int64_t>> keep_outliers = {};
  /// Layer -> the static scale of its activations' int8 codes, in compressed-tensors' int8: for all
  /// quantized layers or for none, whose activations then have scales of their own at run time.
  std::map<std::string, float> input_scales = {};
  /// How kvant chooses outlier features at run time; bitsandbytes is always per_call.
  Outliers outliers = Outliers::per_call;
  /// Chooses the codes of layers in groups (int2, int3, int4, int8-group in GPTQ's or AWQ's form);
  /// null: they are rounded to nearest.
  std::shared_ptr<const LayerEncoder> encoder = nullptr;
  /// Groups of the encoder's layers are not neighbours ("desc_act").
  bool act_order = false;
  /// Tensor -> what it is multiplied with before anything else. Weights as [out, in].
  std::map<std::string, WeightScaling> scalings = {};
  bool dry_run = false;  ///< plan and check; write nothing
  JobOptions job = {};
};

/// A linear layer in the result.
struct PlannedLayer {
  std::string name;
  WeightScheme scheme = WeightScheme::keep;
  DType stored = DType::float32;     ///< of the source
  std::vector<std::uint64_t> shape;  ///< of the source
  std::int64_t kept_columns = 0;
  std::uint64_t bytes_before = 0;  ///< of the weight
  std::uint64_t bytes_after = 0;   ///< of the weight, its scales and kept columns
};

/// What a job did, or, in a dry run, would do.
struct CheckpointSummary {
  std::string model_type;
  std::vector<PlannedLayer> layers;       ///< ascending by name; those that stay in float too
  std::vector<std::string> skip_modules;  ///< llm_int8_skip_modules, if there are 8-bit layers
  std::uint64_t bytes_before = 0;         ///< of all tensors
  std::uint64_t bytes_after = 0;
  std::vector<std::string> shards;        ///< names of the result's safetensors files
  std::vector<std::string> copied_files;  ///< tokenizer, generation settings, ...
  std::vector<Warning> warnings;          ///< the library never prints
};

/// Which layers: what transformers 5 replaces (known for some 550 model_types), else all
/// two-dimensional weights that look like no embedding, output head, router or expert, with a
/// warning that it is a guess. Biases and all other tensors keep their stored dtype. config.json
/// gets its quantization_config, with a list of the modules that stay in float, and is otherwise
/// preserved. Everything else of the folder is copied, but weights in other formats and what
/// describes another quantization, which a warning names.
/// @param model a folder with config.json and safetensors files; @param output appears whole or not
///        at all
/// @throws FormatError as Checkpoint does; Error unsupported (quantized already, a layer of another
///         dtype than F32, F16 and BF16), not_finite (a weight that is NaN or infinite, or beyond
///         fp16 in an 8-bit layer), invalid_argument (a rule that matches nothing, int8 and
///         llm_int8 in one model, output = input, kept columns), out_of_range, io, cancelled
KVANT_API CheckpointSummary quantize_checkpoint(const std::filesystem::path& model,
                                                const std::filesystem::path& output,
                                                const QuantizeCheckpointOptions& options = {});

/// How dequantize_checkpoint goes about it.
struct DequantizeCheckpointOptions {
  /// float32, float16 or bfloat16, of all float tensors. Nothing: the quantized layers become what
  /// config.json names, else float32, and other tensors stay as they are.
  std::optional<DType> dtype = {};
  bool dry_run = false;  ///< plan and check; write nothing
  JobOptions job = {};
};

/// Quantized layers, in any form that kvant reads, become float ones as the form's own library
/// computes them (kept columns as kept), rounded to the dtype; config.json loses its
/// quantization_config.
/// @throws as quantize_checkpoint; FormatError: parts of a layer that are missing or do not fit;
///         Error unsupported: there is no quantized layer
KVANT_API CheckpointSummary dequantize_checkpoint(const std::filesystem::path& model,
                                                  const std::filesystem::path& output,
                                                  const DequantizeCheckpointOptions& options = {});

}  // namespace kvant::io
