// Models with encoders into GGUF files and back: T5 and BERT, with their tokenizers.

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "kvant/io/gguf.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
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
using kvant::models::Tokenizer;
using kvant::test::code_of;
using kvant::test::largest_difference;
using kvant::test::message_of;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

const Path kData = KVANT_TEST_DATA;
const Path kEncoders = kData / "encoders";

/// A copy of a folder whose config.json says something else.
void copy_with(const Path& from, const Path& to, const json& changes) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to);
  json config = json::parse(kvant::test::read_text(to / "config.json"));
  config.update(changes);
  std::ofstream(to / "config.json") << config;
}

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

Model load(kvant::Context& context, const Path& path, const char* scheme = "fp32") {
  const ModelFiles files(path);
  kvant::models::Request request;
  request.scheme = kvant::models::scheme_from_name(scheme);
  kvant::models::LoadOptions options;
  options.plan = make_plan(files.config(), request);
  return load_model(context, files.path(), files.config(), options);
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
  const Results wanted = results_of(context, load(context, folder));
  const auto summary = convert_to_gguf(context, folder, file, {.type = "f32"});
  CHECK(summary.tensors == Gguf(file).tensors().size());
  (void)convert_from_gguf(context, file, back);
  for (const Path& path : {file, back}) {
    const Results got = results_of(context, load(context, path));
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
    const Results got = results_of(context, load(context, file, scheme));
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
  const Results wanted = results_of(context, load(context, folder));
  change_tensor(folder, "shared.weight", "encoder.embed_tokens.weight");
  change_tensor(folder, "shared.weight", "lm_head.weight");
  change_tensor(folder, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
  CHECK(results_of(context, load(context, folder)).logits == wanted.logits);
  const auto summary = convert_to_gguf(context, folder, file, {.type = "f32"});
  REQUIRE(summary.warnings.size() == 2);  // and that there is no tokenizer
  CHECK(std::any_of(summary.warnings.begin(), summary.warnings.end(), [](const auto& warning) {
    return warning.text.find("1 tensors") == 0 &&
           warning.text.find("EncDecAttention.relative_attention_bias") != std::string::npos;
  }));
  CHECK_FALSE(Gguf(file).contains("output.weight"));
  CHECK(results_of(context, load(context, file)).logits == wanted.logits);
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
  refused("roberta");
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
  // Scaled and with a head of its own; neither.
  copy_with(kEncoders / "t5_gated", folder,
            {{"relative_attention_max_distance", 128},
             {"tie_word_embeddings", true},
             {"scale_decoder_outputs", true}});
  refused("lm_head.weight");
  copy_with(kEncoders / "t5", folder,
            {{"relative_attention_max_distance", 128}, {"scale_decoder_outputs", false}});
  refused("scale_decoder_outputs");
}

TEST_CASE("convert: tokenizers of T5 and BERT stay") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const auto reference = json::parse(kvant::test::read_text(kData / "tokenizers/reference.json"));
  const auto texts = reference.at("texts").get<std::vector<std::string>>();
  const Path folder = temporary.path() / "model";
  const Path file = temporary.path() / "model.gguf";
  const Path back = temporary.path() / "back";
  const json strip = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
  const json runs = {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", "\u2581"}};
  const json spaces = {{"type", "Metaspace"}, {"prepend_scheme", "always"}};
  const json compiled =
      json::parse(kvant::test::read_text(kData / "tokenizers/t5.json"))["normalizer"];
  using Changes = std::map<std::string, json>;
  const json bare = {{"type", "Metaspace"}, {"prepend_scheme", "never"}};
  const std::vector<std::pair<std::string, Changes>> tokenizers = {
      {"t5", {}},
      // As transformers makes it of SentencePiece's file.
      {"t5",
       {{"/normalizer", {{"type", "Sequence"}, {"normalizers", {compiled, strip, runs}}}},
        {"/pre_tokenizer", spaces}}},
      {"t5", {{"/pre_tokenizer", spaces}}},  // spaces stay
      {"t5", {{"/pre_tokenizer", bare}, {"/decoder", bare}}},
      {"bert", {}},
      {"bert_cased", {{"/model/max_input_chars_per_word", 100}, {"/decoder/cleanup", true}}}};
  for (const auto& [name, changes] : tokenizers) {
    INFO(name);
    json description = json::parse(kvant::test::read_text(kData / "tokenizers" / (name + ".json")));
    for (const auto& [pointer, value] : changes) {
      description[json::json_pointer(pointer)] = value;
    }
    const bool t5 = name == "t5";
    if (t5) {  // scores are float32 in GGUF
      for (json& each : description["model"]["vocab"]) each[1] = each[1].get<float>();
    }
    const Tokenizer original(description.dump(), name);
    // The models have 100 tokens; BERT's tokenizers have more.
    if (t5) {
      copy_t5("t5", folder);
    } else {
      const auto size = static_cast<std::uint64_t>(original.size() + 3);
      copy_with(kEncoders / "bert", folder, {{"vocab_size", size}});
      const std::string bytes = kvant::test::read_text(folder / "model.safetensors");
      const auto before = SafeTensors::from_bytes(std::as_bytes(std::span(bytes)));
      kvant::io::SafeTensorsWriter writer;
      for (const auto& info : before.tensors()) {
        if (info.name != "embeddings.word_embeddings.weight") {
          writer.add(info.name, info.dtype, info.shape, before.tensor(info.name).data);
        }
      }
      const std::vector<std::byte> table(size * 32 * 2);
      writer.add("embeddings.word_embeddings.weight", kvant::DType::bfloat16, {size, 32}, table);
      writer.write(folder / "model.safetensors");
    }
    std::ofstream(folder / "tokenizer.json") << description;
    (void)convert_to_gguf(context, folder, file, {.job = {.force = true}});
    (void)convert_from_gguf(context, file, back, {.job = {.force = true}});
    const Path again = temporary.path() / "again.gguf";
    (void)convert_to_gguf(context, file, again, {.job = {.force = true}});
    for (const Path& result : {file, back, again}) {
      const Tokenizer got = ModelFiles(result).tokenizer();
      CHECK(got.prefix() == original.prefix());
      CHECK(got.suffix() == original.suffix());
      for (const std::string& text : texts) {
        // Beside spaces, their sign counts as one or not, by how they were made to one.
        if (changes.contains("/normalizer") && text.find("\u2581\u2581") != std::string::npos) {
          continue;
        }
        INFO(text);
        const Ids ids = original.encode(text);
        CHECK(got.encode(text) == ids);
        CHECK(got.decode(ids) == original.decode(ids));
      }
    }
    const Gguf gguf(file);
    const auto tokens = gguf.texts("tokenizer.ggml.tokens");
    CHECK(tokens->size() == static_cast<std::size_t>(ModelFiles(file).config().vocab_size));
    CHECK(gguf.integer("tokenizer.ggml.padding_token_id") == 0);
    if (t5) {
      CHECK(gguf.integer("tokenizer.ggml.eos_token_id") == 1);
      CHECK(gguf.integer("tokenizer.ggml.unknown_token_id") == 2);
      CHECK(gguf.numbers("tokenizer.ggml.precompiled_charsmap")->size() > 100);
    } else {
      CHECK((*tokens)[2] == "[CLS]");
      CHECK((*tokens)[5] == "\u2581!");
      const auto vocabulary = description["model"]["vocab"].get<std::map<std::string, int>>();
      const auto continuing =
          std::find_if(vocabulary.begin(), vocabulary.end(),
                       [](const auto& each) { return each.first.starts_with("##"); });
      CHECK((*tokens)[static_cast<std::size_t>(continuing->second)] == continuing->first.substr(2));
      CHECK(gguf.integer("tokenizer.ggml.seperator_token_id") == 3);
      CHECK(gguf.boolean("tokenizer.ggml.normalizer.lowercase") ==
            (name == "bert" ? std::nullopt : std::optional(false)));
      // vocab.txt alone says the same.
      if (name == "bert") {
        std::vector<std::string> lines(vocabulary.size());
        for (const auto& [token, id] : vocabulary) lines[static_cast<std::size_t>(id)] = token;
        std::ofstream out(folder / "vocab.txt");
        for (const std::string& line : lines) out << line << "\n";
        out.close();
        std::filesystem::remove(folder / "tokenizer.json");
        (void)convert_to_gguf(context, folder, again, {.job = {.force = true}});
        CHECK(Gguf(again).texts("tokenizer.ggml.tokens") == tokens);
      }
    }
    // What cannot be said of it.
    const auto refused = [&](const char* pointer, const json& value) {
      json changed = description;
      changed[json::json_pointer(pointer)] = value;
      std::ofstream(folder / "tokenizer.json") << changed;
      return message_of(
                 [&] { (void)convert_to_gguf(context, folder, file, {.job = {.force = true}}); },
                 ErrorCode::unsupported)
                 .find("--no-tokenizer") != std::string::npos;
    };
    if (t5) {
      CHECK(refused("/normalizer", {{"type", "Lowercase"}}));
      CHECK(refused("/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "first"}}));
      CHECK(refused("/pre_tokenizer", {{"type", "Metaspace"}, {"split", false}}));
      CHECK(refused("/decoder", {{"type", "ByteFallback"}}));
    } else {
      CHECK(refused("/normalizer/clean_text", false));
      CHECK(refused("/normalizer/handle_chinese_chars", false));
      CHECK(refused("/model/max_input_chars_per_word", 6));
      CHECK(refused("/post_processor", nullptr));
      CHECK(refused("/pre_tokenizer", {{"type", "WhitespaceSplit"}}));
      CHECK(refused("/model/vocab/##\u2581x", original.size() + 1));
      CHECK(refused("/model/vocab/##[x]", original.size() + 1));
    }
  }
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
