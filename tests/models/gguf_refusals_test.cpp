// What of a GGUF file's metadata and tensors would make another model than kvant builds: refused by
// name, never ignored.

#include <limits>
#include <string>

#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::Gguf;
using kvant::io::GgufValue;
using kvant::io::GgufWriter;
using kvant::models::convert_to_gguf;
using kvant::models::ModelFiles;
using kvant::test::code_of;
using kvant::test::kFamilies;
using Path = std::filesystem::path;

/// A tensor of floats that a copy has beside the others.
struct MoreTensor {
  std::string name;
  std::vector<float> values;
};

GgufValue value_of(const Gguf& file, std::string_view key) {
  if (const auto text = file.text(key)) return std::string(*text);
  if (const auto truth = file.boolean(key)) return *truth;
  if (const auto whole = file.integer(key)) return static_cast<std::uint32_t>(*whole);
  return static_cast<float>(file.number(key).value());
}

/// A copy whose metadata says something else, and with another tensor.
void copy_gguf(const Path& from, const Path& to, const std::string& changed, const GgufValue& value,
               const MoreTensor& more = {}) {
  const Gguf file(from);
  GgufWriter writer(to);
  for (const std::string_view key : file.keys()) {
    if (key != changed) writer.set(std::string(key), value_of(file, key));
  }
  if (!changed.empty()) writer.set(changed, value);
  for (const auto& info : file.tensors()) {
    if (info.name == more.name) continue;
    const auto* tensor = file.find_gguf(info.name);
    writer.add_tensor(info.name, *tensor->type, tensor->shape);
  }
  if (!more.name.empty()) {
    writer.add_tensor(more.name, *kvant::io::find_gguf_type("f32"), {more.values.size()});
  }
  writer.begin();
  for (const auto& info : file.tensors()) {
    if (info.name != more.name) writer.write(info.name, 0, file.tensor(info.name).data);
  }
  if (!more.name.empty()) writer.write(more.name, 0, std::as_bytes(std::span(more.values)));
  writer.commit();
}

/// A family as a GGUF file, and what becomes of changed copies of it.
class Changed {
 public:
  explicit Changed(const char* family) : file_(temporary_.path() / "model.gguf") {
    (void)convert_to_gguf(context_, kFamilies / family, file_, {.type = "f32"});
    logits_ = logits(file_);
  }

  /// The error of loading a changed copy; ok: it is a model.
  ErrorCode load(const std::string& key, const GgufValue& value, const MoreTensor& more = {}) {
    copy_gguf(file_, copy_, key, value, more);
    return code_of([&] { (void)logits(copy_); }, &message);
  }
  /// Whether a changed copy computes what the file does.
  bool same(const std::string& key, const GgufValue& value) {
    REQUIRE(load(key, value) == ErrorCode::ok);
    return logits(copy_) == logits_;
  }

  std::string message;

 private:
  std::vector<float> logits(const Path& path) {
    const ModelFiles files(path);
    kvant::models::LoadOptions options;
    options.plan = make_plan(files.config(), {});
    const auto model = load_model(context_, files.path(), files.config(), options);
    return kvant::test::logits_of(context_, model, {3, 5, 7, 11, 13, 17});
  }

  kvant::Context context_;
  kvant::test::TempFolder temporary_;
  Path file_;
  Path copy_ = temporary_.path() / "copy.gguf";
  std::vector<float> logits_;
};

}  // namespace

TEST_CASE("gguf models: keys that are not built are refused by name") {
  Changed llama("llama_bias");
  for (const char* key :
       {"attention.kv_lora_rank", "attention.temperature_scale", "expert_shared_count",
        "leading_dense_block_count", "rope.scaling.yarn_log_multiplier", "rope.scale_linear"}) {
    const std::string whole = std::string("llama.") + key;
    CHECK(llama.load(whole, 2.0f) == ErrorCode::unsupported);
    CHECK(llama.message.find(whole) != std::string::npos);
    CHECK(llama.load(whole, std::uint32_t{0}) == ErrorCode::ok);  // none
  }
  CHECK(llama.load("llama.attention.causal", false) == ErrorCode::unsupported);
  CHECK(llama.same("llama.attention.causal", true));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    CHECK(llama.load("llama.rope.freq_base", bad) == ErrorCode::invalid_file);
    CHECK(llama.load("llama.attention.layer_norm_rms_epsilon", bad) == ErrorCode::invalid_file);
  }
}

TEST_CASE("gguf models: positions that are scaled as llama.cpp scales them, or refused") {
  Changed llama("llama_bias");
  // A factor alone is a linear one.
  CHECK_FALSE(llama.same("llama.rope.scaling.factor", 4.0f));
  CHECK(llama.same("llama.rope.scaling.factor", 1.0f));
  CHECK(llama.load("llama.rope.scaling.attn_factor", 1.2f) == ErrorCode::unsupported);
  CHECK(llama.same("llama.rope.scaling.attn_factor", 1.0f));
  CHECK(llama.load("", false, {"rope_freqs.weight", std::vector<float>(8, 0.0f)}) != ErrorCode::ok);
  Changed yarn("qwen2_yarn");
  CHECK(yarn.same("qwen2.rope.scaling.yarn_beta_fast", 32.0f));
  CHECK_FALSE(yarn.same("qwen2.rope.scaling.yarn_beta_slow", 0.01f));
  CHECK(yarn.same("qwen2.rope.scaling.attn_factor", 1.0f));
  CHECK(yarn.load("qwen2.rope.scaling.attn_factor", 1.5f) == ErrorCode::unsupported);
  CHECK(yarn.load("qwen2.rope.scaling.yarn_ext_factor", 0.5f) == ErrorCode::unsupported);
}

TEST_CASE("gguf models: tensors that no part of the model reads are refused by name") {
  Changed phi3("phi3_partial");
  for (const char* name :
       {"rope_factors_long.weight", "output.bias", "blk.0.attn_q.scale", "blk.0.attn_q.bias"}) {
    CHECK(phi3.load("", false, {name, {1.0f, 2.0f}}) == ErrorCode::unsupported);
    CHECK(phi3.message.find(name) != std::string::npos);
  }
  CHECK(phi3.load("", false, {"cls.bias", {1.0f}}) == ErrorCode::ok);
  CHECK(phi3.load("", false, {"blk.0.attn_rot_embd", {1.0f}}) == ErrorCode::ok);
}
