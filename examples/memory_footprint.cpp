// memory_footprint: how many bytes a model takes, by parameters and buffers, before and after.
//
//     memory_footprint [CHECKPOINT [MODEL_TYPE]]      any folder or .safetensors file
//
// Without arguments: two models whose figures are well known, from their shapes alone (nothing is
// loaded), and the bundled language model.

#include <fmt/core.h>
#include <exception>
#include <filesystem>
#include <kvant/io/footprint.hpp>
#include <string>
#include <vector>

namespace {

using kvant::DType;
using kvant::io::Footprint;
using kvant::io::ModelTensor;
using kvant::io::TensorRole;

/// The tensors of flan-t5-small: 8 + 8 blocks of width 512, 6 heads of 64, gated feed-forward 1024.
std::vector<ModelTensor> flan_t5_small() {
  constexpr std::uint64_t kWidth = 512;
  constexpr std::uint64_t kInner = 6 * 64;
  constexpr std::uint64_t kFeedForward = 1024;
  constexpr std::uint64_t kVocabulary = 32128;
  std::vector<ModelTensor> tensors;
  const auto add = [&](std::string name, std::vector<std::uint64_t> shape, TensorRole role) {
    tensors.push_back({std::move(name), DType::float32, std::move(shape), role});
  };
  const auto linear = [&](const std::string& name, std::uint64_t outputs, std::uint64_t inputs) {
    add(name + ".weight", {outputs, inputs}, TensorRole::linear_weight);
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".layer_norm.weight", {kWidth}, TensorRole::parameter);
  };
  const auto attention = [&](const std::string& name) {
    for (const char* part : {".q", ".k", ".v"}) linear(name + part, kInner, kWidth);
    linear(name + ".o", kWidth, kInner);
    norm(name);
  };
  add("shared.weight", {kVocabulary, kWidth}, TensorRole::parameter);
  for (const std::string stack : {"encoder", "decoder"}) {
    for (int block = 0; block < 8; ++block) {
      const std::string name = stack + "." + std::to_string(block);
      attention(name + ".self_attention");
      if (stack == "decoder") attention(name + ".cross_attention");
      linear(name + ".wi_0", kFeedForward, kWidth);
      linear(name + ".wi_1", kFeedForward, kWidth);
      linear(name + ".wo", kWidth, kFeedForward);
      norm(name);
    }
    add(stack + ".relative_attention_bias.weight", {32, 6}, TensorRole::parameter);
    norm(stack);
  }
  linear("lm_head", kVocabulary, kWidth);
  return tensors;
}

/// BLIP image captioning (base), by its totals: 989,656,304 bytes of float32, 512 position ids.
std::vector<ModelTensor> blip() {
  return {{"parameters", DType::float32, {989'656'304 / 4}, TensorRole::parameter},
          {"position_ids", DType::int64, {1, 512}, TensorRole::buffer}};
}

void print(const char* what, const Footprint& f, const Footprint& before) {
  fmt::print("  {:<28} {:>13} {:>10} {:>10} {:>13}  {:.9g} GB, ratio {:.16g}\n", what, f.parameters,
             f.scales, f.buffers, f.total(), static_cast<double>(f.total()) / 1e9,
             static_cast<double>(f.total()) / static_cast<double>(before.total()));
}

void print_title(const std::string& title) {
  fmt::print("{}\n  {:<28} {:>13} {:>10} {:>10} {:>13}\n", title, "bytes", "parameters", "scales",
             "buffers", "total");
}

void show_checkpoint(const std::filesystem::path& path, const std::string& model_type) {
  const kvant::io::Checkpoint checkpoint(path);
  auto kind = kvant::io::model_hints_of(path);
  if (!model_type.empty()) kind.model_type = model_type;
  const auto tensors = kvant::io::model_tensors(checkpoint, kind);
  const Footprint stored = footprint(tensors);
  print_title(path.string());
  print("as stored", stored, stored);
  print("floats in float32", footprint(tensors, {.cast = DType::float32}), stored);
  print("floats in bfloat16", footprint(tensors, {.cast = DType::bfloat16}), stored);
  print("linear layers in int8", footprint(tensors, kvant::io::kFootprintBitsandbytesInt8), stored);
}

void show_known_models() {
  const auto t5 = flan_t5_small();
  const Footprint t5_before = footprint(t5);
  print_title("flan-t5-small");
  print("float32", t5_before, t5_before);
  print("int8 by quanto, frozen", footprint(t5, kvant::io::kFootprintQuantoInt8), t5_before);

  const auto captions = blip();
  const Footprint captions_before = footprint(captions);
  print_title("\nBLIP image captioning");
  print("float32", captions_before, captions_before);
  print("cast to bfloat16", footprint(captions, {.cast = DType::bfloat16}), captions_before);
  fmt::print("\n");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1) {
      show_checkpoint(argv[1], argc > 2 ? argv[2] : "");
      return 0;
    }
    show_known_models();
    std::filesystem::path bundled = "models/tiny-code-model/model";
    if (!std::filesystem::exists(bundled)) bundled = "examples" / bundled;
    show_checkpoint(bundled, "");
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "memory_footprint: {}\n", error.what());
    return 1;
  }
}
