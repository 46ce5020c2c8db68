// The tokenizers of T5, BERT and RoBERTa in GGUF files: ids and texts stay; what cannot be said is
// refused.

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/changed_folder.hpp"
#include "models/gguf/gguf_model.hpp"
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
using kvant::models::ModelFiles;
using kvant::models::TokenId;
using kvant::models::Tokenizer;
using kvant::test::code_of;
using kvant::test::copy_with;
using kvant::test::kData;
using kvant::test::kEncoders;
using kvant::test::message_of;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

/// The small BERT with a table of `size` tokens.
void copy_bert(const Path& folder, std::uint64_t size) {
  constexpr const char* kTable = "embeddings.word_embeddings.weight";
  copy_with(kEncoders / "bert", folder, {{"vocab_size", size}});
  const std::string bytes = kvant::test::read_text(folder / "model.safetensors");
  const auto before = SafeTensors::from_bytes(std::as_bytes(std::span(bytes)));
  kvant::io::SafeTensorsWriter writer;
  for (const auto& info : before.tensors()) {
    if (info.name == kTable) continue;
    writer.add(info.name, info.dtype, info.shape, before.tensor(info.name).data);
  }
  const std::vector<std::byte> table(size * 32 * 2);
  writer.add(kTable, kvant::DType::bfloat16, {size, 32}, table);
  writer.write(folder / "model.safetensors");
}

}  // namespace

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
      copy_with(kEncoders / "t5", folder, {{"relative_attention_max_distance", 128}});
    } else {
      copy_bert(folder, static_cast<std::uint64_t>(original.size() + 3));
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

TEST_CASE("convert: RoBERTa's tokenizer stays") {
  kvant::Context context;
  const kvant::test::TempFolder temporary;
  const Path folder = temporary.path() / "model";
  const Path file = temporary.path() / "model.gguf";
  const Path back = temporary.path() / "back";
  const auto reference = json::parse(kvant::test::read_text(kData / "tokenizers/reference.json"));
  json description = json::parse(kvant::test::read_text(kData / "tokenizers/gpt2.json"));
  json added = description["added_tokens"][0];
  int id = 411;
  for (const char* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}) {
    added.update({{"id", id++}, {"content", token}});
    description["added_tokens"].push_back(added);
  }
  description["post_processor"] = {{"type", "RobertaProcessing"},
                                   {"sep", {"</s>", 413}},
                                   {"cls", {"<s>", 411}},
                                   {"trim_offsets", true},
                                   {"add_prefix_space", false}};
  const Tokenizer original(description.dump(), "tokenizer.json");
  copy_bert(folder, 420);
  std::ofstream(folder / "tokenizer.json") << description;
  (void)convert_to_gguf(context, folder, file);
  (void)convert_from_gguf(context, file, back);
  for (const Path& result : {file, back}) {
    const Tokenizer got = ModelFiles(result).tokenizer();
    CHECK(got.prefix() == Ids{411});
    CHECK(got.suffix() == Ids{413});
    for (const std::string& text : reference.at("texts").get<std::vector<std::string>>()) {
      INFO(text);
      CHECK(got.encode(text) == original.encode(text));
      CHECK(got.decode(got.encode(text)) == original.decode(original.encode(text)));
    }
  }
  const Gguf gguf(file);
  CHECK(gguf.text("tokenizer.ggml.pre") == "roberta-bpe");
  CHECK(gguf.boolean("tokenizer.ggml.add_bos_token") == true);
  CHECK(gguf.boolean("tokenizer.ggml.add_sep_token") == true);
  for (const auto& [key, wanted] : {std::pair("bos", 411),
                                    {"padding", 412},
                                    {"eos", 413},
                                    {"seperator", 413},
                                    {"unknown", 414},
                                    {"mask", 415}}) {
    CHECK(gguf.integer(std::string("tokenizer.ggml.") + key + "_token_id") == wanted);
  }
}

TEST_CASE("convert: BERT's tokens as other converters write them") {
  const kvant::test::TempFolder temporary;
  const auto tokenizer = [&](std::vector<std::string> tokens, const std::vector<int>& types,
                             const std::map<std::string, std::uint32_t>& ids) {
    const Path path = temporary.path() / "tokens.gguf";
    kvant::io::GgufWriter writer(path);
    writer.set("general.architecture", "bert");
    writer.set("tokenizer.ggml.model", "bert");
    writer.set("tokenizer.ggml.tokens", std::move(tokens));
    if (!types.empty()) {
      writer.set("tokenizer.ggml.token_type",
                 std::vector<std::int32_t>(types.begin(), types.end()));
    }
    for (const auto& [key, id] : ids) writer.set("tokenizer.ggml." + key + "_token_id", id);
    writer.begin();
    writer.commit();
    const Gguf file(path);
    return Tokenizer(kvant::models::gguf_tokenizer(file).dump(), "tokens.gguf");
  };
  const std::vector<std::string> tokens = {"[PAD]", "[UNK]",      "[CLS]", "[SEP]",
                                           "[x]",   "\u2581play", "ing",   "\u2581\u2581"};
  // No ids and no types: by their spellings.
  const Tokenizer plain = tokenizer(tokens, {}, {});
  CHECK(plain.prefix() == Ids{2});
  CHECK(plain.suffix() == Ids{3});
  CHECK(plain.encode("Playing play zzz") == Ids{5, 6, 5, 1});
  CHECK(plain.find("[x]") == 4);
  CHECK(plain.find("##ing") == 6);
  CHECK(plain.find("\u2581") == 7);
  const Tokenizer named =
      tokenizer(tokens, {3, 3, 3, 3, 1, 1, 1, 1}, {{"cls", 0}, {"seperator", 1}, {"unknown", 4}});
  CHECK(named.prefix() == Ids{0});
  CHECK(named.suffix() == Ids{1});
  CHECK(named.encode("zzz") == Ids{4});
  CHECK(code_of([&] {
          (void)tokenizer({"a", "[UNK]", "[CLS]"}, {}, {});
        }) == ErrorCode::invalid_file);
  CHECK(code_of([&] { (void)tokenizer(tokens, {}, {{"unknown", 8}}); }) == ErrorCode::invalid_file);
}
