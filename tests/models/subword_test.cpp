// Unigram models, compiled normalization rules and WordPiece beyond what tokenizers_test.cpp
// compares: other files that hold them, and files that make no sense.

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/gguf_writer.hpp"
#include "kvant/models/model_files.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/text/base64.hpp"
#include "models/text/charsmap.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::models::Charsmap;
using kvant::models::from_base64;
using kvant::models::to_base64;
using kvant::models::TokenId;
using kvant::models::Tokenizer;
using kvant::test::code_of;
using kvant::test::kData;
using nlohmann::json;
using Ids = std::vector<TokenId>;

json tokenizer_json(const char* name) {
  return json::parse(kvant::test::read_text(kData / "tokenizers" / name));
}

std::vector<std::string> texts() {
  return tokenizer_json("reference.json").at("texts").get<std::vector<std::string>>();
}

std::string charsmap_of_t5() {
  return *from_base64(
      tokenizer_json("t5.json").at("normalizer").at("precompiled_charsmap").get<std::string>());
}

std::string words(const std::vector<std::uint32_t>& values) {
  std::string bytes;
  for (const std::uint32_t value : values) {
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  }
  return bytes;
}

ErrorCode made(const json& description) {
  return code_of([&] { Tokenizer(description.dump(), "test"); });
}

}  // namespace

TEST_CASE("base64: of any length, and what is none") {
  for (const std::string& bytes : {std::string(), std::string("f"), std::string("fo"),
                                   std::string("foo"), std::string("\0\xFF\x80z", 4)}) {
    CHECK(from_base64(to_base64(bytes)) == bytes);
  }
  CHECK(to_base64("foob") == "Zm9vYg==");
  for (const char* text : {"Zg=", "Zm9*", "=Zg=", "Z===", "Zg==Zg=="}) {
    INFO(text);
    CHECK_FALSE(from_base64(text).has_value());
  }
}

TEST_CASE("charsmap: rules of SentencePiece") {
  const Charsmap map(charsmap_of_t5(), "test");
  CHECK(map.apply("\uFF21\uFB01\u2026 \u200B") == "Afi... ");
  CHECK(map.apply("cafe\u0301 \u00BD") == "caf\u00E9 1\u20442");
  CHECK(map.apply("") == "");
  CHECK(Charsmap("", "test").apply("\uFF21") == "\uFF21");
}

TEST_CASE("charsmap: any bytes are an error or lead nowhere") {
  const auto code = [](const std::string& bytes) {
    return code_of([&] { Charsmap(bytes, "test"); });
  };
  CHECK(code("abc") == ErrorCode::invalid_file);
  CHECK(code(words({4})) == ErrorCode::invalid_file);     // no trie
  CHECK(code(words({3, 0})) == ErrorCode::invalid_file);  // no whole units
  CHECK(code(words({0xFFFFFFFC, 0})) == ErrorCode::invalid_file);
  CHECK(code(words({4, 0}) + "\xFF") == ErrorCode::invalid_file);
  CHECK(code(words({0})) == ErrorCode::ok);
  // 'a' ^ 1 is reached from the root's offset 1; its leaf and its text lie outside, or inside of a
  // character.
  for (const std::uint32_t leaf : {0x80000000u, 0x80000001u, 0x80000007u, 0xFFFFFFFFu}) {
    std::vector<std::uint32_t> units(256, 0);
    units[0] = 1u << 10;
    units['a' ^ 1] = 'a' | 1u << 8 | (('a' ^ 1 ^ 5) << 10);
    units[5] = leaf;
    units.insert(units.begin(), 256 * 4);
    const Charsmap map(words(units) + "\u00E9x", "test");
    CHECK(map.apply("ba") == (leaf == 0x80000000u ? "b\u00E9x" : "ba"));
  }
  const std::string whole = charsmap_of_t5();
  for (std::size_t cut = 0; cut < whole.size(); cut += 37) {
    std::string bytes = whole.substr(0, cut);
    (void)code(bytes);
    bytes = whole;
    bytes[cut] = static_cast<char>(~bytes[cut]);
    try {
      const Charsmap map(bytes, "test");
      for (const std::string& text : texts()) (void)map.apply(text);
    } catch (const kvant::Error&) {
    }
  }
}

TEST_CASE("unigram: a vocabulary that makes no sense is refused") {
  const auto changed = [](const char* pointer, const json& value) {
    json description = tokenizer_json("t5.json");
    description[json::json_pointer(pointer)] = value;
    return made(description);
  };
  CHECK(changed("/model/unk_id", 2) == ErrorCode::ok);
  CHECK(changed("/model/unk_id", nullptr) == ErrorCode::ok);
  CHECK(changed("/model/unk_id", -1) == ErrorCode::invalid_file);
  CHECK(changed("/model/unk_id", 100'000) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab", json::object()) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab/3", {"a"}) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab/3", {1, 2}) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab/3/1", "x") == ErrorCode::invalid_file);
  CHECK(changed("/model/type", "Trigram") == ErrorCode::unsupported);
  CHECK(changed("/normalizer/precompiled_charsmap", "*") == ErrorCode::invalid_file);
  CHECK(changed("/normalizer/precompiled_charsmap", "AAA=") == ErrorCode::invalid_file);
  CHECK(changed("/pre_tokenizer", {{"type", "ByteLevel"}}) == ErrorCode::unsupported);
  // Without an unknown token, what cannot be spelled is dropped.
  json description = tokenizer_json("t5.json");
  description["model"]["unk_id"] = nullptr;
  CHECK(Tokenizer(description.dump(), "test").encode("\u2603").size() == 1);  // the space's sign
  // Long texts cost no more than their length.
  CHECK_FALSE(Tokenizer(description.dump(), "test").encode(std::string(1'000'000, 'a')).empty());
}

TEST_CASE("unigram: from GGUF metadata as from tokenizer.json") {
  const json source = tokenizer_json("t5.json");
  const kvant::test::TempFolder folder;
  const std::filesystem::path path = folder.path() / "t5.gguf";
  kvant::io::GgufWriter writer(path);
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const json& each : source.at("model").at("vocab")) {
    tokens.push_back(each.at(0).get<std::string>());
    scores.push_back(each.at(1).get<float>());
    types.push_back(types.size() < 2 ? 3 : types.size() == 2 ? 2 : 1);
  }
  std::vector<std::int32_t> charsmap;
  for (const char c : charsmap_of_t5()) charsmap.push_back(static_cast<signed char>(c));
  writer.set("general.architecture", "t5");
  writer.set("tokenizer.ggml.model", "t5");
  writer.set("tokenizer.ggml.tokens", tokens);
  writer.set("tokenizer.ggml.scores", scores);
  writer.set("tokenizer.ggml.token_type", types);
  writer.set("tokenizer.ggml.precompiled_charsmap", charsmap);
  writer.set("tokenizer.ggml.unknown_token_id", std::uint32_t{2});
  writer.set("tokenizer.ggml.eos_token_id", std::uint32_t{1});
  writer.begin();
  writer.commit();
  const kvant::io::Gguf file(path);
  const Tokenizer read(kvant::models::gguf_tokenizer(file).dump(), "t5.gguf");
  json rounded = source;  // scores are float32 there
  for (json& each : rounded["model"]["vocab"]) each[1] = each[1].get<float>();
  const Tokenizer wanted(rounded.dump(), "t5.json");
  CHECK(read.suffix() == Ids{1});
  CHECK(read.prefix().empty());
  for (const std::string& text : texts()) {
    INFO(text);
    CHECK(read.encode(text) == wanted.encode(text));
    CHECK(read.decode(read.encode(text)) == wanted.decode(wanted.encode(text)));
  }
}

TEST_CASE("word piece: BERT's vocab.txt as tokenizer.json") {
  const kvant::test::TempFolder folder;
  std::filesystem::copy(kData / "encoders" / "bert" / "config.json", folder.path());
  const json vocabulary = tokenizer_json("bert.json").at("model").at("vocab");
  std::vector<std::string> lines(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) lines[id.get<std::size_t>()] = token;
  std::ofstream file(folder.path() / "vocab.txt");
  for (const std::string& line : lines) file << line << "\n";
  file.close();
  const auto read = [&] { return kvant::models::ModelFiles(folder.path()).tokenizer(); };
  const Tokenizer wanted(kData / "tokenizers" / "bert.json");
  CHECK(read().prefix() == wanted.prefix());
  CHECK(read().suffix() == wanted.suffix());
  for (const std::string& text : texts()) {
    INFO(text);
    CHECK(read().encode(text) == wanted.encode(text));
    CHECK(read().decode(wanted.encode(text)) == wanted.decode(wanted.encode(text)));
  }
  const auto with_config = [&](const json& config) {
    std::ofstream(folder.path() / "tokenizer_config.json") << config;
    return read();
  };
  CHECK(with_config({{"do_lower_case", false}}).encode("The") !=
        with_config({{"do_lower_case", true}}).encode("The"));
  CHECK(code_of([&] { (void)with_config({{"cls_token", "[BEGIN]"}}); }) == ErrorCode::invalid_file);
  CHECK(code_of([&] { (void)with_config({{"do_lower_case", 7}}); }) == ErrorCode::invalid_file);
  std::filesystem::remove(folder.path() / "vocab.txt");
  folder.write("spiece.model", "x");
  CHECK(code_of([&] { (void)read(); }) == ErrorCode::unsupported);
}

TEST_CASE("word piece: what makes no sense is refused, and long words are unknown") {
  json description = tokenizer_json("bert.json");
  description["model"]["unk_token"] = "[NONE]";
  CHECK(made(description) == ErrorCode::invalid_file);
  description["model"]["unk_token"] = "[UNK]";
  description["model"]["vocab"]["a"] = -1;
  CHECK(made(description) == ErrorCode::invalid_file);
  description = tokenizer_json("bert.json");
  description["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", -3}}};
  CHECK(made(description) == ErrorCode::invalid_file);
  description = tokenizer_json("bert.json");
  description["model"]["max_input_chars_per_word"] = 1'000'000'000;
  const Tokenizer tokenizer(description.dump(), "test");
  CHECK_FALSE(tokenizer.encode(std::string(300'000, 'a')).empty());
}
