// Models into GGUF files and back: the logits stay, for every family that GGUF has and every form
// of weights that kvant reads; what GGUF cannot say is refused by name.

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/gguf.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/changed_folder.hpp"
#include "models/model_builder.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::Gguf;
using kvant::models::convert_from_gguf;
using kvant::models::convert_to_gguf;
using kvant::models::GgufSummary;
using kvant::models::ModelFiles;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::copy_with;
using kvant::test::kData;
using kvant::test::largest_difference;
using kvant::test::message_of;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

/// Logits of some ids, the linear layers in float32, whatever form they are stored in.
std::vector<float> logits(kvant::Context& context, const Path& model) {
  const ModelFiles files(model);
  kvant::models::Request request;
  if (!files.config().int8) request.scheme = kvant::models::Scheme::fp32;
  kvant::models::LoadOptions options;
  options.plan = make_plan(files.config(), request);
  const auto loaded = load_model(context, files.path(), files.config(), options);
  return kvant::test::logits_of(context, loaded, {3, 4, 5, 60, 7, 8, 9, 10, 11, 12, 13, 2});
}

/// Takes the tensors away whose names end so.
void drop_tensors(const Path& folder, std::string_view suffix) {
  const Path file = folder / "model.safetensors";
  std::string bytes = kvant::test::read_text(file);
  const auto before = kvant::io::SafeTensors::from_bytes(std::as_bytes(std::span(bytes)));
  kvant::io::SafeTensorsWriter writer;
  for (const kvant::io::TensorInfo& info : before.tensors()) {
    if (info.name.ends_with(suffix)) continue;
    writer.add(info.name, info.dtype, info.shape, before.tensor(info.name).data);
  }
  writer.write(file);
}

}  // namespace

TEST_CASE("convert: every family's logits stay, in GGUF and in the folder made of it") {
  // What GGUF has no words for is another model here; the folder's logits are what counts.
  const std::map<std::string, json> changes = {
      {"gemma2", {{"query_pre_attn_scalar", 12}}},
      {"gpt2_inverse_layer", {{"scale_attn_by_inverse_layer_idx", false}}},
      {"llama_dynamic", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}},
      {"qwen2_window", {{"use_sliding_window", false}, {"layer_types", nullptr}}},
      {"qwen3", {{"attention_bias", false}}},
  };
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  const Path file = temporary.path() / "model.gguf";
  int families = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kData / "families")) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || name.starts_with("opt") || name == "falcon_rw") continue;
    INFO(name);
    const auto change = changes.find(name);
    copy_with(entry.path(), folder, change == changes.end() ? json::object() : change->second);
    if (name == "qwen3") drop_tensors(folder, "_proj.bias");
    const std::vector<float> wanted = logits(context, folder);
    (void)convert_to_gguf(context, folder, file, {.type = "f32", .job = {.force = true}});
    CHECK(largest_difference(logits(context, file), wanted) <= 1e-6);
    const Path back = temporary.path() / "back";
    (void)convert_from_gguf(context, file, back, {.job = {.force = true}});
    CHECK(largest_difference(logits(context, back), wanted) <= 1e-6);
    ++families;
  }
  CHECK(families == 21);

  (void)convert_to_gguf(context, kData / "checkpoints/fp32", file,
                        {.type = "f32", .job = {.force = true}});
  CHECK(Gguf(file).text("general.architecture") == "starcoder");
  CHECK(largest_difference(logits(context, file), logits(context, kData / "checkpoints/fp32")) <=
        1e-6);
}

TEST_CASE("convert: what a GGUF architecture cannot say is refused, and named") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path file = temporary.path() / "model.gguf";
  const auto refused = [&](const Path& folder) {
    const std::string message =
        message_of([&] { (void)convert_to_gguf(context, folder, file); }, ErrorCode::unsupported);
    CHECK_FALSE(std::filesystem::exists(file));
    return message;
  };
  const auto says = [](const std::string& message, const char* what) {
    INFO(message);
    CHECK(message.find(what) != std::string::npos);
  };
  const Path families = kData / "families";
  says(refused(families / "opt"), "opt");
  says(refused(families / "falcon_rw"), "falcon cannot say");
  says(refused(families / "gemma2"), "attention scale");
  says(refused(families / "gpt2_inverse_layer"), "scale_attn_by_inverse_layer_idx");
  says(refused(families / "llama_dynamic"), "dynamic");
  says(refused(families / "qwen2_window"), "sliding window");
  says(refused(families / "qwen3"), "attention_bias");
  says(refused(kData / "checkpoints/mha_erf_untied_fp32"), "multi_query");
  const Path folder = temporary.path() / "folder";
  copy_with(families / "llama_linear", folder, {{"hidden_act", "relu"}});
  says(refused(folder), "silu");
  copy_with(families / "qwen2_yarn", folder,
            {{"rope_parameters",
              {{"rope_type", "yarn"},
               {"rope_theta", 1e4},
               {"factor", 4.0},
               {"beta_fast", 16.0},
               {"original_max_position_embeddings", 16}}}});
  says(refused(folder), "beta_fast");
}

TEST_CASE("convert: layers that are stored in other forms, and the values they stand for") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path file = temporary.path() / "model.gguf";
  for (const char* name :
       {"gptq_awq/awq_4bit_g32", "gptq_awq/gptq_4bit_g32_asym_act", "gptq_awq/gptq_3bit_g32_asym",
        "checkpoints/bnb_fp4", "checkpoints/bnb_nf4_double"}) {
    INFO(name);
    const Path folder = kData / name;
    (void)convert_to_gguf(context, folder, file, {.type = "f32", .job = {.force = true}});
    CHECK(largest_difference(logits(context, file), logits(context, folder)) <= 1e-6);
  }
  // GPT-2 has its floats the other way around, its codes not.
  const Path codes_of_gpt2 = kData / "architectures/gpt2/bnb_int8";
  (void)convert_to_gguf(context, codes_of_gpt2, file, {.type = "f32", .job = {.force = true}});
  CHECK(largest_difference(logits(context, file),
                           logits(context, kData / "architectures/gpt2/float")) <= 0.1);
  // Codes of 8 bits are multiplied as they are, so that logits differ; the weights may not.
  const Path folder = kData / "checkpoints/bnb_int8";
  (void)convert_to_gguf(context, folder, file, {.type = "f32", .job = {.force = true}});
  const kvant::io::SafeTensors stored(folder / "model.safetensors");
  const auto codes = stored.matrix<std::int8_t>("transformer.h.0.mlp.c_fc.weight");
  const auto scales = stored.values<float>("transformer.h.0.mlp.c_fc.SCB");
  const Gguf gguf(file);
  std::vector<float> row(static_cast<std::size_t>(codes.cols()));
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    gguf.dequantize("blk.0.ffn_up.weight", r, 1, row.data());
    double worst = 0;
    const float scale = scales[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < codes.cols(); ++c) {
      const float value = static_cast<float>(codes(r, c)) * scale / 127;
      worst =
          std::max(worst, static_cast<double>(std::fabs(row[static_cast<std::size_t>(c)] - value)));
    }
    CHECK(worst <= 1e-6 * static_cast<double>(scale));
  }
}

TEST_CASE("convert: types of tensors, and where blocks do not fit") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "model";
  kvant::test::TestModel model;
  model.config["n_embd"] = 256;
  model.config["n_inner"] = 288;  // 9 blocks of 32
  model.fill();
  model.save(folder);
  const std::map<std::string, std::vector<std::string>> expected = {
      // type, ffn_up (rows of 256), ffn_down (rows of 288), token_embd, general.file_type
      {"f32", {"F32", "F32", "F32", "0"}},      {"f16", {"F16", "F16", "F16", "1"}},
      {"bf16", {"BF16", "BF16", "BF16", "32"}}, {"q8_0", {"Q8_0", "Q8_0", "Q8_0", "7"}},
      {"q4_0", {"Q4_0", "Q4_0", "Q8_0", "2"}},  {"q4_1", {"Q4_1", "Q4_1", "Q8_0", "3"}},
      {"q5_0", {"Q5_0", "Q5_0", "Q8_0", "8"}},  {"q5_1", {"Q5_1", "Q5_1", "Q8_0", "9"}},
      {"q4_k", {"Q4_K", "Q5_0", "Q6_K", "14"}}, {"q5_k", {"Q5_K", "Q5_1", "Q6_K", "16"}},
      {"q6_k", {"Q6_K", "Q8_0", "Q6_K", "18"}},
  };
  for (const auto& [type, names] : expected) {
    INFO(type);
    const Path path = temporary.path() / (type + ".gguf");
    const GgufSummary summary = convert_to_gguf(context, folder, path, {.type = type});
    const Gguf file(path);
    CHECK(file.find_gguf("blk.1.ffn_up.weight")->type->name == names[0]);
    CHECK(file.find_gguf("blk.1.ffn_down.weight")->type->name == names[1]);
    CHECK(file.find_gguf("token_embd.weight")->type->name == names[2]);
    CHECK(file.find_gguf("blk.1.ffn_norm.weight")->type->name == "F32");
    CHECK(file.find_gguf("blk.1.ffn_up.bias")->type->name == "F32");
    CHECK(file.find_gguf("position_embd.weight")->type->name == "F32");
    CHECK(file.integer("general.file_type") == std::stoll(names[3]));
    CHECK(summary.tensors == file.tensors().size());
    // Every block is the quantizer's of these very values.
    const kvant::io::GgufType& stored = *file.find_gguf("blk.1.ffn_up.weight")->type;
    const std::vector<float>& values = model.at("transformer.h.1.mlp.c_fc.weight");
    const auto tensor = file.tensor("blk.1.ffn_up.weight").data;
    std::vector<std::byte> blocks(tensor.size());
    for (std::size_t b = 0; b < values.size() / stored.elements; ++b) {
      stored.quantize(values.data() + b * stored.elements, blocks.data() + b * stored.bytes);
    }
    CHECK(std::memcmp(blocks.data(), tensor.data(), blocks.size()) == 0);
    CHECK_NOTHROW(logits(context, path));
  }
  // From one GGUF file to another, and narrow types as they are into a folder.
  const Path again = temporary.path() / "again.gguf";
  (void)convert_to_gguf(context, temporary.path() / "f32.gguf", again, {.type = "q4_0"});
  CHECK(kvant::test::read_bytes(again).size() ==
        kvant::test::read_bytes(temporary.path() / "q4_0.gguf").size());
  for (const auto& [type, dtype] :
       {std::pair("f16", kvant::DType::float16), std::pair("bf16", kvant::DType::bfloat16),
        std::pair("q4_k", kvant::DType::float32)}) {
    const Path back = temporary.path() / (std::string(type) + ".back");
    (void)convert_from_gguf(context, temporary.path() / (std::string(type) + ".gguf"), back);
    const kvant::io::SafeTensors weights(back / "model.safetensors");
    CHECK(weights.tensor("transformer.h.0.mlp.c_fc.weight").info->dtype == dtype);
  }
}

TEST_CASE("convert: tokenizers stay, and what ends a text") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const auto reference = json::parse(kvant::test::read_text(kData / "tokenizers/reference.json"));
  const auto texts = reference.at("texts").get<std::vector<std::string>>();
  const Path folder = temporary.path() / "model";
  const Path file = temporary.path() / "model.gguf";
  const Path back = temporary.path() / "back";
  for (const char* name : {"gpt2", "llama2", "llama3", "qwen2", "smollm"}) {
    INFO(name);
    const Path tokenizer = kData / "tokenizers" / (std::string(name) + ".json");
    const kvant::models::Tokenizer original(tokenizer);
    kvant::test::TestModel model;
    model.config["vocab_size"] = original.size() + 5;  // padded, as many are
    model.config["eos_token_id"] = {2, 7};
    model.fill();
    std::filesystem::remove_all(folder);
    model.save(folder);
    std::filesystem::copy_file(tokenizer, folder / "tokenizer.json");
    std::ofstream(folder / "chat_template.jinja") << "<|im_start|>";
    (void)convert_to_gguf(context, folder, file, {.job = {.force = true}});
    (void)convert_from_gguf(context, file, back, {.job = {.force = true}});
    for (const Path& result : {file, back}) {
      const ModelFiles files(result);
      const kvant::models::Tokenizer got = files.tokenizer();
      CHECK(got.prefix() == original.prefix());
      CHECK(got.suffix() == original.suffix());
      CHECK(files.config().is_eos(2));
      CHECK(files.config().is_eos(7));
      CHECK(files.chat_template() == "<|im_start|>");
      for (const std::string& text : texts) {
        INFO(text);
        const Ids ids = original.encode(text);
        CHECK(got.encode(text) == ids);
        CHECK(got.decode(ids) == original.decode(ids));
      }
    }
  }
  // From file to file the vocabulary stays as it is.
  const Path again = temporary.path() / "again.gguf";
  for (const char* name : {"llama_rope3_F32.gguf", "llama_Q4_0.gguf"}) {
    const Gguf before(kData / "gguf/models" / name);
    (void)convert_to_gguf(context, kData / "gguf/models" / name, again, {.job = {.force = true}});
    const Gguf after(again);
    for (const std::string_view key : before.keys()) {
      if (!key.starts_with("tokenizer.")) continue;
      INFO(key);
      CHECK(after.text(key) == before.text(key));
      CHECK(after.texts(key) == before.texts(key));
      CHECK(after.numbers(key) == before.numbers(key));
      CHECK(after.integer(key) == before.integer(key));
    }
  }
  // A way of splitting that GGUF has no name for.
  json odd = json::parse(kvant::test::read_text(kData / "tokenizers/gpt2.json"));
  odd["pre_tokenizer"] = {{"type", "Sequence"},
                          {"pretokenizers",
                           {{{"type", "Digits"}, {"individual_digits", false}},
                            {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
  std::ofstream(folder / "tokenizer.json") << odd;
  CHECK(message_of([&] { (void)convert_to_gguf(context, folder, file, {.job = {.force = true}}); },
                   ErrorCode::unsupported)
            .find("--no-tokenizer") != std::string::npos);
  CHECK_NOTHROW(
      convert_to_gguf(context, folder, file, {.tokenizer = false, .job = {.force = true}}));
  CHECK_FALSE(Gguf(file).has("tokenizer.ggml.tokens"));
}

TEST_CASE("convert: errors leave what was there") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = kData / "families/llama_linear";
  const Path file = temporary.path() / "model.gguf";
  CHECK(code_of([&] { (void)convert_to_gguf(context, folder, file, {.type = "q9"}); }) ==
        ErrorCode::invalid_argument);
  const std::atomic<bool> stop = true;
  CHECK(code_of([&] {
          (void)convert_to_gguf(context, folder, file, {.job = {.cancel = &stop}});
        }) == ErrorCode::cancelled);
  CHECK(std::filesystem::is_empty(temporary.path()));

  (void)convert_to_gguf(context, folder, file);
  const auto before = kvant::test::read_bytes(file);
  CHECK(code_of([&] { (void)convert_to_gguf(context, folder, file); }) == ErrorCode::io);
  CHECK(code_of([&] { (void)convert_to_gguf(context, file, file, {.job = {.force = true}}); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([&] {
          (void)convert_from_gguf(context, file, temporary.path() / "out",
                                  {.job = {.cancel = &stop}});
        }) == ErrorCode::cancelled);

  kvant::test::TestModel model;
  model.fill();
  for (const float bad : {std::nanf(""), HUGE_VALF, 7e4f}) {
    model.tensors["transformer.h.1.mlp.c_fc.weight"].values[40] = bad;
    model.save(temporary.path() / "bad");
    std::string message;
    CHECK(code_of(
              [&] {
                (void)convert_to_gguf(context, temporary.path() / "bad", file,
                                      {.job = {.force = true}});
              },
              &message) == ErrorCode::not_finite);
    CHECK(message.find("blk.1.ffn_up.weight") != std::string::npos);
  }
  model.tensors.erase("transformer.h.1.mlp.c_fc.weight");
  model.save(temporary.path() / "bad");
  CHECK(code_of([&] {
          (void)convert_to_gguf(context, temporary.path() / "bad", file, {.job = {.force = true}});
        }) == ErrorCode::invalid_file);
  CHECK(kvant::test::read_bytes(file) == before);

  // A GGUF file with a byte of its header changed is a folder or an error.
  const std::string whole = kvant::test::read_text(file);
  const Path changed_file = temporary.path() / "changed.gguf";
  for (std::size_t at = 0; at < 900; at += 7) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x55);
    std::ofstream(changed_file, std::ios::binary) << changed;
    try {
      (void)convert_from_gguf(context, changed_file, temporary.path() / "out",
                              {.job = {.force = true}});
    } catch (const kvant::Error&) {
      continue;
    }
  }
}
