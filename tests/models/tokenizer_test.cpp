// Byte-level BPE against the reference's ids, and its corners on toy vocabularies.

#include <kvant/error.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "io/json/json_tree.hpp"
#include "kvant/models/tokenizer.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/pre_tokenizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::models::PreTokenizer;
using kvant::models::TokenId;
using kvant::models::Tokenizer;
using kvant::test::kTinyCode;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Pieces = std::vector<std::string>;

const Tokenizer& tiny() {
  static const Tokenizer tokenizer(kTinyCode / "model/tokenizer.json");
  return tokenizer;
}

json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
}

/// A tokenizer.json whose vocabulary is a to e, a space, a few merges of them, and added tokens.
json toy(const json& merges, const json& added = json::array()) {
  return {{"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level()},
          {"model",
           {{"type", "BPE"},
            {"vocab",
             {{"a", 0},
              {"b", 1},
              {"c", 2},
              {"d", 3},
              {"\u0120", 4},
              {"ab", 5},
              {"abc", 6},
              {"bc", 7},
              {"aa", 8},
              {"\u0120a", 9}}},
            {"merges", merges}}}};
}

Tokenizer made_of(const json& description) {
  return Tokenizer(description.dump(), "toy");
}

kvant::ErrorCode code_of_toy(const json& description) {
  return kvant::test::code_of([&] { made_of(description); });
}

}  // namespace

TEST_CASE("tokenizer: the reference's ids") {
  const json reference = json::parse(kvant::test::read_text(kTinyCode / "reference.json"));
  for (const json& entry : reference.at("tokenizer")) {
    const auto text = entry.at("text").get<std::string>();
    INFO(text);
    CHECK(tiny().encode(text) == entry.at("ids").get<Ids>());
    CHECK(tiny().decode(entry.at("ids").get<Ids>()) == text);
  }
  CHECK(tiny().encode(reference.at("prompt").get<std::string>()) ==
        reference.at("prompt_ids").get<Ids>());
  Ids eval = tiny().encode(kvant::test::read_text(kTinyCode / "eval.txt"));
  eval.insert(eval.begin(), 0);
  CHECK(eval.size() == reference.at("eval_token_count").get<std::size_t>());
  eval.resize(50);
  CHECK(eval == reference.at("eval_ids_first_50").get<Ids>());
}

TEST_CASE("tokenizer: text comes back") {
  for (const std::string text :
       {" a", "  a", "a  b", "\n\n x", "don't DON'T", "x=123", "\u6f22\u5b57\u306e", "\U0001F642",
        "a\u00a0b", "", " ", "\t\t", "1\u00bd\u2167", "end ", "a\r\n", "\u180e x"}) {
    INFO(text);
    CHECK(tiny().decode(tiny().encode(text)) == text);
  }
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  INFO("seed " << kSeed);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (auto n = random() % 40; n > 0; --n) {
      const auto limit = random() % 3 == 0 ? 0x110000u : random() % 2 == 0 ? 0x3000u : 0x80u;
      auto code = static_cast<char32_t>(random() % limit);
      if (code >= 0xD800 && code < 0xE000) code = 'x';
      text += kvant::models::encode_utf8(code);
    }
    CHECK(tiny().decode(tiny().encode(text)) == text);
  }
}

TEST_CASE("tokenizer: splitting") {
  const PreTokenizer plain(byte_level(), "test");
  CHECK(plain.split("don't DON'T") == Pieces{"don", "'t", " DON", "'", "T"});
  CHECK(plain.split("a  b") == Pieces{"a", " ", " b"});
  CHECK(plain.split("\n\n x") == Pieces{"\n\n", " x"});
  CHECK(plain.split("a\tb") == Pieces{"a", "\t", "b"});
  CHECK(plain.split("x=123;") == Pieces{"x", "=", "123", ";"});
  CHECK(plain.split("a   ") == Pieces{"a", "   "});
  CHECK(plain.split("\u00a0\u00a0x") == Pieces{"\u00a0", "\u00a0", "x"});
  // U+180E is a space to PCRE2's \s, but not to Unicode's White_Space.
  CHECK(plain.split("a \u180e") == Pieces{"a", " \u180e"});
  CHECK(plain.split("").empty());
  const PreTokenizer digits(
      {{"type", "Sequence"},
       {"pretokenizers",
        json::array({{{"type", "Digits"}, {"individual_digits", true}}, byte_level()})}},
      "test");
  CHECK(digits.split("x 12") == Pieces{"x", " ", "1", "2"});
  CHECK(digits.split("\u00bd\u2167a") == Pieces{"\u00bd", "\u2167", "a"});
  const PreTokenizer prefixed({{"type", "ByteLevel"}}, "test");
  CHECK(prefixed.split("a b") == Pieces{" a", " b"});
}

TEST_CASE("tokenizer: both forms of merges, lowest rank first, leftmost on ties") {
  const auto pair = [](const char* left, const char* right) { return json::array({left, right}); };
  for (const json& merges :
       {json::array({"b c", "a b", "ab c", "a a"}),
        json::array({pair("b", "c"), pair("a", "b"), pair("ab", "c"), pair("a", "a")})}) {
    const Tokenizer tokenizer = made_of(toy(merges));
    CHECK(tokenizer.encode("abc") == Ids{0, 7});  // b c has the lower rank
    CHECK(tokenizer.encode("aaa") == Ids{8, 0});
    CHECK(tokenizer.encode("aaaa") == Ids{8, 8});
    CHECK(tokenizer.encode("abab") == Ids{5, 5});
    CHECK(tokenizer.encode("axa") == Ids{8});  // x has no symbol: as if it were not there
  }
  CHECK(made_of(toy(json::array({"a b", "ab c"}))).encode("abc") == Ids{6});
  json whole = toy(json::array());
  CHECK(made_of(whole).encode("abc") == Ids{0, 1, 2});
  whole["model"]["ignore_merges"] = true;
  CHECK(made_of(whole).encode("abc") == Ids{6});
}

TEST_CASE("tokenizer: added tokens") {
  const Tokenizer tokenizer =
      made_of(toy(json::array(), {{{"id", 20}, {"content", "<x>"}, {"special", true}},
                                  {{"id", 21}, {"content", "<x>y"}, {"special", false}},
                                  {{"id", 22}, {"content", "<l>"}, {"lstrip", true}},
                                  {{"id", 23}, {"content", "<r>"}, {"rstrip", true}},
                                  {{"id", 24}, {"content", "dd"}, {"single_word", true}}}));
  CHECK(tokenizer.encode("a<x>b") == Ids{0, 20, 1});
  CHECK(tokenizer.encode("<x>y<x>") == Ids{21, 20});  // the longest
  CHECK(tokenizer.encode("a  <l> b") == Ids{0, 22, 4, 1});
  CHECK(tokenizer.encode("a <r>  b") == Ids{0, 4, 23, 1});
  CHECK(tokenizer.encode("a dd b") == Ids{0, 4, 24, 4, 1});
  CHECK(tokenizer.encode("ddd") == Ids{3, 3, 3});
  CHECK(tokenizer.encode("dd<x>") == Ids{24, 20});
  CHECK(tokenizer.decode({0, 20, 21}) == "a<x>y");
  CHECK(tokenizer.decode({0, 20}, false) == "a<x>");
  CHECK(tokenizer.decode({15, 1000, -1, 0}) == "a");  // ids without a token
}

TEST_CASE("tokenizer: what it cannot do is refused") {
  using kvant::ErrorCode;
  const json merges = json::array();
  CHECK(code_of_toy(toy(merges)) == ErrorCode::ok);
  const auto changed = [&](const char* pointer, const json& value) {
    json description = toy(merges);
    description[json::json_pointer(pointer)] = value;
    return code_of_toy(description);
  };
  CHECK(changed("/normalizer", {{"type", "Nmt"}}) == ErrorCode::unsupported);
  CHECK(changed("/model/type", "WordPiece") == ErrorCode::unsupported);
  CHECK(changed("/model/unk_token", "<unk>") == ErrorCode::unsupported);
  CHECK(changed("/model/dropout", 0.1) == ErrorCode::unsupported);
  CHECK(changed("/model/end_of_word_suffix", "</w>") == ErrorCode::unsupported);
  CHECK(changed("/model/byte_fallback", true) == ErrorCode::unsupported);
  CHECK(changed("/pre_tokenizer", {{"type", "Punctuation"}}) == ErrorCode::unsupported);
  CHECK(changed("/pre_tokenizer", 3) == ErrorCode::unsupported);
  CHECK(changed("/model/vocab/a", -1) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab/a", 4'000'000'000u) == ErrorCode::invalid_file);
  CHECK(changed("/model/vocab", 3) == ErrorCode::invalid_file);
  CHECK(changed("/model/merges", json::array({"a z"})) == ErrorCode::invalid_file);
  CHECK(changed("/model/merges", json::array({"ab"})) == ErrorCode::invalid_file);
  CHECK(changed("/model/merges", 3) == ErrorCode::invalid_file);
  CHECK(changed("/added_tokens", {{{"id", 1}}}) == ErrorCode::invalid_file);
}

TEST_CASE("tokenizer: hostile JSON files") {
  const kvant::test::TempFolder folder;
  const auto code = [&](const std::string& text) {
    try {
      (void)kvant::io::read_json_tree(folder.write("f.json", text));
    } catch (const kvant::Error& error) {
      return error.code();
    }
    return kvant::ErrorCode::ok;
  };
  using kvant::ErrorCode;
  CHECK(code("{\"a\": [1, {\"a\": 2}]}") == ErrorCode::ok);
  CHECK(code("") == ErrorCode::invalid_file);
  CHECK(code("[]") == ErrorCode::invalid_file);
  CHECK(code("{") == ErrorCode::invalid_file);
  CHECK(code("\xEF\xBB\xBF{}") == ErrorCode::invalid_file);
  CHECK(code(std::string("{}\0x", 4)) == ErrorCode::invalid_file);
  CHECK(code("{\"a\": 1, \"a\": 2}") == ErrorCode::invalid_file);
  CHECK(code("{\"a\": " + std::string(100'000, '[')) == ErrorCode::invalid_file);
  CHECK(code("{\"a\": \"\xFF\"}") == ErrorCode::invalid_file);
}

TEST_CASE("tokenizer: bytes that are not UTF-8 count as U+FFFD") {
  CHECK(kvant::models::repair_utf8("a\xFF"
                                   "b") == "a\uFFFDb");
  CHECK(kvant::models::repair_utf8("\xE2\x82") == "\uFFFD");  // cut: one for the part
  CHECK(kvant::models::repair_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(kvant::models::repair_utf8("\xC0\xAF") == "\uFFFD\uFFFD");
  CHECK(tiny().encode("caf\xE9") == tiny().encode("caf\uFFFD"));
}

TEST_CASE("tokenizer: a stream holds back the beginning of a character") {
  kvant::models::Utf8Stream stream;
  CHECK(stream.push("a\xF0") == "a");
  CHECK(stream.push("\x9F\x99").empty());
  CHECK(stream.push("\x82!") == "\U0001F642!");
  CHECK(stream.push("\xE2\x28") == "\uFFFD(");
  CHECK(stream.push("\xC3").empty());
  CHECK(stream.finish() == "\uFFFD");
  CHECK(stream.finish().empty());
}

TEST_CASE("tokenizer: a megabyte of one character is fine") {
  CHECK(tiny().encode(std::string(1'000'000, ' ')).size() < 100'000);
  const Tokenizer tokenizer = made_of(toy(json::array({"a a"})));
  CHECK(tokenizer.encode(std::string(1'000'000, 'a')).size() == 500'000);
}
