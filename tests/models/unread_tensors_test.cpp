// Weights in a checkpoint's blocks that no part of the model reads are an error; calls that are
// cancelled end between two blocks.

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::Context;
using kvant::ErrorCode;
using kvant::test::kFamilies;

/// A copy of a family whose config.json says something else, and with one more tensor.
void copy_family(const char* family, const std::filesystem::path& to, const nlohmann::json& changes,
                 const std::string& more, const std::vector<float>& values) {
  std::filesystem::create_directories(to);
  nlohmann::json config =
      nlohmann::json::parse(kvant::test::read_text(kFamilies / family / "config.json"));
  config.update(changes);
  std::ofstream(to / "config.json") << config;
  const kvant::io::SafeTensors from(kFamilies / family / "model.safetensors");
  kvant::io::SafeTensorsWriter writer;
  for (const kvant::io::TensorInfo& info : from.tensors()) {
    writer.add(info.name, info.dtype, info.shape, from.tensor(info.name).data);
  }
  if (!more.empty()) writer.add(more, values);
  writer.write(to / "model.safetensors");
}

}  // namespace

TEST_CASE("loading: weights of blocks that nobody reads are an error that names them") {
  Context context;
  const kvant::test::TempFolder temporary;
  const auto folder = temporary.path() / "model";
  const auto load = [&] { (void)kvant::test::load(context, folder); };
  // A qwen3 that is called a llama: its norms of queries and keys would be left out.
  copy_family("qwen3", folder, {{"model_type", "llama"}}, "", {});
  std::string message;
  CHECK(kvant::test::code_of(load, &message) == ErrorCode::unsupported);
  INFO(message);
  CHECK(message.find("_norm.weight") != std::string::npos);
  CHECK(message.find("llama") != std::string::npos);
  // Biases that config.json does not have.
  copy_family("qwen3", folder, {{"attention_bias", false}}, "", {});
  CHECK(kvant::test::code_of(load, &message) == ErrorCode::unsupported);
  CHECK(message.find("_proj.bias") != std::string::npos);
  // Zeros change nothing, and neither do tables that are computed.
  const std::string block = "model.layers.0.";
  const std::vector<float> zeros(40, 0.0f);
  copy_family("mistral_window", folder, nlohmann::json::object(), block + "mlp.gate_proj.bias",
              zeros);
  CHECK(kvant::test::code_of(load, &message) == ErrorCode::ok);
  std::vector<float> other = zeros;
  other[3] = 1.0f;
  copy_family("mistral_window", folder, nlohmann::json::object(), block + "mlp.gate_proj.bias",
              other);
  CHECK(kvant::test::code_of(load, &message) == ErrorCode::unsupported);
  copy_family("mistral_window", folder, nlohmann::json::object(),
              block + "self_attn.rotary_emb.inv_freq.weight", other);
  CHECK(kvant::test::code_of(load, &message) == ErrorCode::ok);
}

TEST_CASE("running: a call that is cancelled ends between two blocks") {
  Context context;
  const auto model = kvant::test::load(context, kFamilies / "llama_bias");
  const std::vector<kvant::models::TokenId> ids = {3, 4, 5, 6, 7, 8};
  std::atomic<bool> cancel = false;
  kvant::models::Cache cache;
  cache.cancel = &cancel;
  (void)forward(context, model, ids, cache);
  CHECK(cache.length == 6);
  cancel = true;
  CHECK(kvant::test::code_of([&] { (void)forward(context, model, ids, cache); }) ==
        ErrorCode::cancelled);
  CHECK(cache.length == 0);
  kvant::models::GenerateOptions options;
  options.tokens = 4;
  options.ignore_eos = true;
  options.cancel = &cancel;
  CHECK(generate(context, model, ids, options).empty());
  std::string message;
  CHECK(kvant::test::code_of(
            [&] { (void)evaluate(context, model, ids, 4, {.progress = {}, .cancel = &cancel}); },
            &message) == ErrorCode::cancelled);
  CHECK(message.find("0 predictions") != std::string::npos);
  // Once the flag is down the same cache goes on, from the beginning.
  cancel = false;
  (void)forward(context, model, ids, cache);
  CHECK(cache.length == 6);
}
