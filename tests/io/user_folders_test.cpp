// Model folders as users have them: which files go along, where links may lead, how many shards
// there may be, and what is said of a folder that holds no weights.

#include <sys/resource.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "io/user_models.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::io::Checkpoint;
using kvant::io::dequantize_checkpoint;
using kvant::io::quantize_checkpoint;
using kvant::io::WarningKind;
using kvant::test::add;
using kvant::test::CheckpointBuilder;
using kvant::test::code_of;
using kvant::test::has;
using kvant::test::read_text;
using kvant::test::small_llama;
using kvant::test::TempFolder;
using kvant::test::warning;
using Names = std::set<std::string>;

}  // namespace

TEST_CASE("user models: everything goes along but other weights, and what stays behind is said") {
  CheckpointBuilder builder;
  small_llama(builder);
  const fs::path model = builder.write();
  const std::vector<std::string> along = {"tokenizer.json",
                                          "tokenizer.model.v3",
                                          "source.spm",
                                          "modules.json",
                                          ".gitattributes",
                                          "1_Pooling/config.json",
                                          "2_Dense/config.json",
                                          "2_Dense/model.safetensors",
                                          "2_Dense/pytorch_model.bin",
                                          "additional_chat_templates/tool_use.jinja",
                                          "figures/a.png",
                                          "adapter_config.json",
                                          "adapter_model.safetensors"};
  const std::vector<std::string> left = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                         "training_args.bin", "hf_quant_config.json",
                                         "onnx/model.onnx",   "checkpoint-5/model.safetensors",
                                         ".git/HEAD",         "consolidated.safetensors"};
  for (const auto* list : {&along, &left}) {
    for (const std::string& name : *list) {
      fs::create_directories((model / name).parent_path());
      const bool modules = name == "modules.json";
      builder.folder().write(name, modules ? R"([{"path": ""}, {"path": "2_Dense"}, 3])" : name);
    }
  }
  const fs::path out = model / "out";  // inside the model's folder
  for (int run = 0; run < 2; ++run) {
    const auto summary = quantize_checkpoint(model, out, {.job = {.force = true}});
    CHECK(Names(summary.copied_files.begin(), summary.copied_files.end()) ==
          Names(along.begin(), along.end()));
    const std::string text = warning(summary, WarningKind::not_copied);
    for (const std::string& name : left) {
      const std::string shown = name.starts_with("checkpoint-5") ? "checkpoint-5"
                                : name.starts_with(".git")       ? ".git"
                                                                 : name;
      INFO(text);
      CHECK(has(text, "\"" + shown + "\""));
      CHECK_FALSE(fs::exists(out / name));
    }
    for (const std::string& name : along) {
      CHECK(read_text(out / name) == read_text(model / name));
    }
    CHECK_FALSE(fs::exists(out / "out"));
  }
}

TEST_CASE("user models: links lead into the model's folder or the cache's blobs, nowhere else") {
  const TempFolder hub;
  const fs::path snapshot = hub.path() / "models--a--b/snapshots/1";
  fs::create_directories(snapshot);
  fs::create_directories(hub.path() / "models--a--b/blobs");
  hub.write("models--a--b/blobs/abc", "tokens");
  hub.write("secret", "key");
  CheckpointBuilder builder;
  small_llama(builder);
  const fs::path model = builder.write();
  for (const char* file : {"config.json", "model.safetensors"}) {
    fs::copy(model / file, snapshot / file);
  }
  fs::create_symlink("../../blobs/abc", snapshot / "tokenizer.json");
  fs::create_symlink("tokenizer.json", snapshot / "vocab.json");
  const TempFolder folder;
  quantize_checkpoint(snapshot, folder.path() / "out");
  CHECK(read_text(folder.path() / "out/tokenizer.json") == "tokens");
  CHECK(read_text(folder.path() / "out/vocab.json") == "tokens");
  CHECK_FALSE(fs::is_symlink(folder.path() / "out/tokenizer.json"));
  std::string message;
  for (const char* target : {"../../../secret", "../../nowhere"}) {
    fs::remove(snapshot / "merges.txt");
    fs::create_symlink(target, snapshot / "merges.txt");
    CHECK(code_of([&] { quantize_checkpoint(snapshot, folder.path() / "no"); }, &message) ==
          ErrorCode::io);
    CHECK(has(message, "merges.txt"));
    CHECK(has(message, target));
    CHECK_FALSE(fs::exists(folder.path() / "no"));
  }
}

TEST_CASE("user models: more shards than descriptors") {
  CheckpointBuilder builder;
  small_llama(builder);
  for (int i = 0; i < 300; ++i) add(builder, "model.layers.0.b" + std::to_string(i), {4});
  const std::string model = builder.write();
  const TempFolder folder;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit few = before;
  few.rlim_cur = 128;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  const auto restore = [&] { ::setrlimit(RLIMIT_NOFILE, &before); };
  try {
    const auto many =
        quantize_checkpoint(model, folder.path() / "many", {.job = {.max_shard_size = 1}});
    CHECK(many.shards.size() > 300);
    dequantize_checkpoint(folder.path() / "many", folder.path() / "back",
                          {.dtype = DType::float32, .job = {.max_shard_size = 1}});
    const Checkpoint back(folder.path() / "back", {.strict = true});
    CHECK(back.values<float>("model.layers.0.b299") == std::vector<float>(4, 0.5f));
  } catch (...) {
    restore();
    throw;
  }
  restore();
}

TEST_CASE("user models: a folder without weights is told what it holds instead") {
  const auto message_of = [](auto fill) {
    const TempFolder folder;
    folder.write("config.json", "{}");
    fill(folder);
    std::string message;
    CHECK(code_of([&] { quantize_checkpoint(folder.path(), folder.path() / "out"); }, &message) !=
          ErrorCode::ok);
    return message;
  };
  CHECK(has(message_of([](const TempFolder& f) { f.write("pytorch_model.bin", "x"); }),
            "save_pretrained"));
  CHECK(
      has(message_of([](const TempFolder& f) { f.write("model-00001-of-00002.safetensors", "x"); }),
          "model.safetensors.index.json from"));
  CHECK(has(message_of([](const TempFolder& f) { f.write("adapter_model.safetensors", "x"); }),
            "adapter"));
  CHECK(has(message_of([](const TempFolder& f) {
              fs::create_symlink("nowhere", f.path() / "model.safetensors");
            }),
            "leads nowhere"));
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  CHECK(has(message_of([&](const TempFolder& f) { f.write("model.safetensors", pointer); }),
            "git lfs pull"));
  CHECK(has(message_of([&](const TempFolder& f) {
              f.write("config.json", pointer);
              kvant::io::SafeTensorsWriter().write(f.path() / "model.safetensors");
            }),
            "git lfs pull"));
}
