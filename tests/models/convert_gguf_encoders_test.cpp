// Models with encoders into GGUF files and back: T5, BERT and RoBERTa.

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "kvant/io/gguf.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/changed_folder.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::Gguf;
using kvant::io::SafeTensors;
using kvant::models::convert_from_gguf;
using kvant::models::convert_to_gguf;
using kvant::models::Model;
using kvant::models::ModelFiles;
using kvant::models::ModelKind;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::copy_with;
using kvant::test::kData;
using kvant::test::kEncoders;
using kvant::test::load_files;
using kvant::test::message_of;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

/// llama.cpp knows one distance alone.
void copy_t5(const char* name, const Path& to) {
  copy_with(kEncoders / name, to, {{"relative_attention_max_distance", 128}});
}

/// Adds a tensor that is a copy of another one, or takes one away (no name).
void change_tensor(const Path& folder, const std::string& from, const std::string& to) {
  const Path file = folder / "model.safetensors";
  std::string bytes = kvant::test::read_text(file);
  const auto before = SafeTensors::from_bytes(std::as_bytes(std::span(bytes)));
  kvant::io::SafeTensorsWriter writer;
  for (const kvant::io::TensorInfo& info : before.tensors()) {
    const auto data = before.tensor(info.name).data;
    if (info.name != from || !to.empty()) writer.add(info.name, info.dtype, info.shape, data);
    if (info.name == from && !to.empty()) writer.add(to, info.dtype, info.shape, data);
  }
  writer.write(file);
}

struct Results {
  std::vector<float> rows;    ///< hidden states of the encoder
  std::vector<float> logits;  ///< of an encoder-decoder
  Ids greedy;
};

Results results_of(kvant::Context& context, const Model& model) {
  Ids ids;
  for (TokenId id = 3; id < 33; ++id) ids.push_back(id * 2);
  Results results;
  results.rows = kvant::models::encode(context, model, ids);
  if (model.config.kind != ModelKind::encoder_decoder) return results;
  kvant::models::Cache cache;
  kvant::models::read_source(context, model, ids, cache);
  results.logits = kvant::test::logits_of(context, model, {0, 7, 8, 9, 10}, cache);
  kvant::models::GenerateOptions options;
  options.tokens = 16;
  options.ignore_eos = true;
  results.greedy = kvant::models::generate(context, model, ids, options);
  return results;
}

/// Names, shapes and values of two checkpoints, as floats.
void check_same_tensors(const Path& wanted_folder, const Path& got_folder) {
  const SafeTensors wanted(wanted_folder / "model.safetensors");
  const SafeTensors got(got_folder / "model.safetensors");
  CHECK(got.tensors().size() == wanted.tensors().size());
  for (const kvant::io::TensorInfo& info : wanted.tensors()) {
    INFO(info.name);
    REQUIRE(got.contains(info.name));
    CHECK(got.tensor(info.name).info->shape == info.shape);
    // bfloat16 is the upper half of a float.
    const auto halves = std::as_bytes(std::span(wanted.tensor(info.name).data));
    const auto floats = std::as_bytes(std::span(got.tensor(info.name).data));
    REQUIRE(floats.size() == 2 * halves.size());
    bool same = true;
    for (std::size_t i = 0; i < halves.size() / 2; ++i) {
      same = same && floats[4 * i] == std::byte{0} && floats[4 * i + 1] == std::byte{0} &&
             floats[4 * i + 2] == halves[2 * i] && floats[4 * i + 3] == halves[2 * i + 1];
    }
    CHECK(same);
  }
}

/// Takes a folder with no more tensors than the model has to GGUF and back.
void check_round_trip(const Path& folder) {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path file = temporary.path() / "model.gguf";
  const Path back = temporary.path() / "back";
  const Results wanted = results_of(context, load_files(context, folder));
  const auto summary = convert_to_gguf(context, folder, file, {.type = "f32"});
  CHECK(summary.tensors == Gguf(file).tensors().size());
  (void)convert_from_gguf(context, file, back);
  for (const Path& path : {file, back}) {
    const Results got = results_of(context, load_files(context, path));
    CHECK(got.rows == wanted.rows);
    CHECK(got.logits == wanted.logits);
    CHECK(got.greedy == wanted.greedy);
  }
  check_same_tensors(folder, back);
  // Float products of the stored values, and those of blocks as they are.
  for (const auto& [type, scheme, bound] :
       {std::tuple("f16", "fp32", 0.01), {"q8_0", "stored", 0.25}, {"q4_0", "stored", 0.9}}) {
    INFO(type);
    (void)convert_to_gguf(context, folder, file, {.type = type, .job = {.force = true}});
    const Results got = results_of(context, load_files(context, file, scheme));
    CHECK(kvant::test::relative_error(got.rows, wanted.rows) < bound);
    CHECK(got.greedy.size() == wanted.greedy.size());
  }
}

}  // namespace

TEST_CASE("convert: T5's logits, greedy ids and tensors stay") {
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  for (const char* name : {"t5", "t5_gated"}) {
    INFO(name);
    copy_t5(name, folder);
    check_round_trip(folder);
  }
  kvant::Context context;
  const Path file = temporary.path() / "model.gguf";
  (void)convert_to_gguf(context, folder, file, {.type = "q8_0"});
  const Gguf gguf(file);
  CHECK(gguf.text("general.architecture") == "t5");
  CHECK(gguf.integer("t5.block_count") == 2);
  CHECK(gguf.integer("t5.decoder_block_count") == 2);
  CHECK(gguf.integer("t5.decoder_start_token_id") == 0);
  CHECK(gguf.integer("t5.attention.relative_buckets_count") == 8);
  CHECK(gguf.integer("t5.attention.key_length") == 12);
  CHECK(gguf.find_gguf("enc.blk.1.ffn_up.weight")->type->name == "Q8_0");
  CHECK(gguf.find_gguf("dec.blk.1.cross_attn_q.weight")->type->name == "Q8_0");
  CHECK(gguf.find_gguf("dec.blk.0.attn_rel_b.weight")->type->name == "F32");
  CHECK(gguf.find_gguf("enc.output_norm.weight")->type->name == "F32");
  CHECK(gguf.contains("output.weight"));
}

TEST_CASE("convert: T5 as its files are, the table more than once and a table that none reads") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  const Path file = temporary.path() / "model.gguf";
  copy_t5("t5", folder);
  const Results wanted = results_of(context, load_files(context, folder));
  change_tensor(folder, "shared.weight", "encoder.embed_tokens.weight");
  change_tensor(folder, "shared.weight", "lm_head.weight");
  change_tensor(folder, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
  CHECK(results_of(context, load_files(context, folder)).logits == wanted.logits);
  const auto summary = convert_to_gguf(context, folder, file, {.type = "f32"});
  REQUIRE(summary.warnings.size() == 2);  // and that there is no tokenizer
  CHECK(std::any_of(summary.warnings.begin(), summary.warnings.end(), [](const auto& warning) {
    return warning.text.find("1 tensors") == 0 &&
           warning.text.find("EncDecAttention.relative_attention_bias") != std::string::npos;
  }));
  CHECK_FALSE(Gguf(file).contains("output.weight"));
  CHECK(results_of(context, load_files(context, file)).logits == wanted.logits);
  // As transformers 5 saves a FLAN-T5 whose head it has tied: the table is the head, not scaled.
  copy_with(kEncoders / "t5", folder,
            {{"relative_attention_max_distance", 128}, {"scale_decoder_outputs", false}});
  const Results plain = results_of(context, load_files(context, folder));
  CHECK(plain.logits != wanted.logits);
  CHECK(plain.greedy == wanted.greedy);
  (void)convert_to_gguf(context, folder, file, {.type = "f32", .job = {.force = true}});
  CHECK(Gguf(file).contains("output.weight"));
  CHECK(results_of(context, load_files(context, file)).logits == plain.logits);
  (void)convert_from_gguf(context, file, temporary.path() / "back");
  CHECK(results_of(context, load_files(context, temporary.path() / "back")).logits == plain.logits);
  // From codes of 8 bits, the values that they stand for.
  const Path codes = kData / "architectures" / "t5" / "bnb_int8";
  (void)convert_to_gguf(context, codes, file, {.type = "f32", .job = {.force = true}});
  const Results exact = results_of(context, load_files(context, kData / "architectures/t5/float"));
  CHECK(kvant::test::relative_error(results_of(context, load_files(context, file)).rows,
                                    exact.rows) < 0.1);
}

TEST_CASE("convert: BERT's hidden states and tensors stay") {
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  copy_with(kEncoders / "bert", folder, json::object());
  const Path file = temporary.path() / "model.gguf";
  kvant::Context context;
  // A base model's pooler is no part of what runs.
  const SafeTensors stored(folder / "model.safetensors");
  std::vector<std::string> poolers;
  for (const auto& info : stored.tensors()) {
    if (info.name.find("pooler") != std::string::npos) poolers.push_back(info.name);
  }
  CHECK(poolers.size() == 2);
  for (const std::string& name : poolers) change_tensor(folder, name, "");
  check_round_trip(folder);
  (void)convert_to_gguf(context, folder, file, {.type = "q8_0"});
  const Gguf gguf(file);
  CHECK(gguf.text("general.architecture") == "bert");
  CHECK(gguf.boolean("bert.attention.causal") == false);
  CHECK(gguf.integer("tokenizer.ggml.token_type_count") == 2);
  CHECK(gguf.find_gguf("token_types.weight")->type->name == "F32");
  CHECK(gguf.find_gguf("position_embd.weight")->type->name == "F32");
  CHECK(gguf.find_gguf("blk.1.attn_output.weight")->type->name == "Q8_0");
  CHECK(gguf.contains("blk.1.attn_output_norm.bias"));
  CHECK(gguf.contains("blk.1.layer_output_norm.weight"));
  CHECK(gguf.contains("token_embd_norm.weight"));
  // From one GGUF file to another.
  const Path again = temporary.path() / "again.gguf";
  (void)convert_to_gguf(context, file, again, {.type = "q4_0"});
  CHECK(Gguf(again).integer("tokenizer.ggml.token_type_count") == 2);
}

TEST_CASE("convert: RoBERTa becomes a BERT whose table of positions begins where its own begins") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  const Path file = temporary.path() / "model.gguf";
  const Path back = temporary.path() / "back";
  copy_with(kEncoders / "roberta", folder, json::object());
  const Results wanted = results_of(context, load_files(context, folder));
  for (const char* name :
       {"dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias"}) {
    change_tensor(folder, std::string("lm_head.") + name, "");
  }
  const auto summary = convert_to_gguf(context, folder, file, {.type = "f32"});
  CHECK(summary.architecture == "bert");
  {
    const Gguf gguf(file);
    CHECK(gguf.integer("bert.context_length") == 38);  // 40 but for those up to the padding's
    CHECK(gguf.integer("tokenizer.ggml.token_type_count") == 1);
    CHECK(gguf.find_gguf("position_embd.weight")->shape == std::vector<std::uint64_t>{38, 32});
  }
  (void)convert_from_gguf(context, file, back);
  CHECK(ModelFiles(back).config().model_type == "bert");
  CHECK(ModelFiles(back).config().n_positions == 38);
  for (const Path& path : {file, back}) {
    CHECK(results_of(context, load_files(context, path)).rows == wanted.rows);
  }
  (void)convert_to_gguf(context, folder, file, {.type = "q8_0", .job = {.force = true}});
  CHECK(kvant::test::relative_error(results_of(context, load_files(context, file, "stored")).rows,
                                    wanted.rows) < 0.25);
  // A table without the rows of the padding is none of RoBERTa's.
  copy_with(Path(folder), temporary.path() / "short", {{"max_position_embeddings", 42}});
  CHECK(code_of([&] {
          (void)convert_to_gguf(context, temporary.path() / "short", file,
                                {.job = {.force = true}});
        }) == ErrorCode::shape_mismatch);
}

TEST_CASE("convert: what GGUF cannot say of a model with an encoder is named") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  const Path file = temporary.path() / "model.gguf";
  const auto refused = [&](const char* what) {
    const std::string message =
        message_of([&] { (void)convert_to_gguf(context, folder, file); }, ErrorCode::unsupported);
    INFO(message);
    CHECK(message.find(what) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(file));
  };
  copy_with(kEncoders / "roberta", folder, json::object());
  refused("lm_head.dense");
  copy_with(kEncoders / "bert_masked", folder, json::object());
  refused("gelu");
  copy_with(kEncoders / "bert_masked", folder, {{"hidden_act", "gelu"}});
  refused("cls.predictions.transform.dense");
  copy_with(kEncoders / "t5", folder, json::object());
  refused("relative_attention_max_distance 16, not 128");
  copy_t5("t5_gated", folder);
  copy_with(Path(folder), temporary.path() / "silu", {{"feed_forward_proj", "gated-silu"}});
  std::filesystem::remove_all(folder);
  std::filesystem::rename(temporary.path() / "silu", folder);
  refused("feed_forward_proj");
  copy_t5("t5", folder);
  change_tensor(folder, "encoder.block.0.layer.1.DenseReluDense.wi.weight", "");
  CHECK(code_of([&] { (void)convert_to_gguf(context, folder, file); }) == ErrorCode::invalid_file);
  // Scaled and with a head of its own.
  copy_with(kEncoders / "t5_gated", folder,
            {{"relative_attention_max_distance", 128},
             {"tie_word_embeddings", true},
             {"scale_decoder_outputs", true}});
  refused("lm_head.weight");
}

TEST_CASE("convert: a changed byte in the header of a T5 or BERT file is a folder or an error") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "folder";
  for (const bool t5 : {true, false}) {
    if (t5) {
      copy_t5("t5_gated", folder);
    } else {
      copy_with(kEncoders / "bert", folder, json::object());
    }
    const Path file = temporary.path() / "model.gguf";
    (void)convert_to_gguf(context, folder, file, {.job = {.force = true}});
    const std::string whole = kvant::test::read_text(file);
    const Path changed_file = temporary.path() / "changed.gguf";
    int failed = 0;
    for (std::size_t at = 0; at < 1200; at += 5) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 0x55);
      std::ofstream(changed_file, std::ios::binary) << changed;
      failed += code_of([&] {
                  (void)convert_from_gguf(context, changed_file, temporary.path() / "out",
                                          {.job = {.force = true}});
                }) != ErrorCode::ok;
    }
    CHECK(failed > 50);
  }
}
