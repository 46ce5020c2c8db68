// Tokenizers in the forms of well-known models, against the reference's ids.
// tests/data/tokenizers/make_tokenizers.py made them.

#include <nlohmann/json.hpp>
#include <string>

#include "kvant/models/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::models::TokenId;
using kvant::models::Tokenizer;
using nlohmann::json;
using Ids = std::vector<TokenId>;

const std::filesystem::path kFolder = kvant::test::kData / "tokenizers";

}  // namespace

TEST_CASE("tokenizers: the forms of well-known models") {
  const json reference = json::parse(kvant::test::read_text(kFolder / "reference.json"));
  const auto texts = reference.at("texts").get<std::vector<std::string>>();
  for (const auto& [name, expected] : reference.at("tokenizers").items()) {
    const Tokenizer tokenizer(kFolder / (name + ".json"));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      INFO(name << ": " << texts[i]);
      const Ids ids = tokenizer.encode(texts[i]);
      CHECK(ids == expected.at("ids")[i].get<Ids>());
      CHECK(tokenizer.decode(ids) == expected.at("decoded")[i].get<std::string>());
    }
    INFO(name);
    Ids whole = tokenizer.prefix();
    const Ids text = tokenizer.encode(texts[0]);
    whole.insert(whole.end(), text.begin(), text.end());
    whole.insert(whole.end(), tokenizer.suffix().begin(), tokenizer.suffix().end());
    CHECK(whole == expected.at("with_special").get<Ids>());
  }
}

TEST_CASE("tokenizers: what a file asks for and is not known is refused by name") {
  const json good = json::parse(kvant::test::read_text(kFolder / "qwen2.json"));
  const auto with = [&](const char* part, const json& value) {
    json changed = good;
    changed[part] = value;
    return kvant::test::code_of([&] { Tokenizer(changed.dump(), "test"); });
  };
  using kvant::ErrorCode;
  CHECK(with("normalizer", {{"type", "Nmt"}}) == ErrorCode::unsupported);
  CHECK(with("normalizer", {{"type", "Sequence"}, {"normalizers", 3}}) == ErrorCode::invalid_file);
  CHECK(with("normalizer", {{"type", "Replace"}, {"pattern", 3}}) == ErrorCode::invalid_file);
  CHECK(with("pre_tokenizer", {{"type", "Punctuation"}}) == ErrorCode::unsupported);
  const auto split = [&](const json& pattern, const char* behavior) {
    return with("pre_tokenizer", {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}});
  };
  CHECK(split({{"Regex", "a"}}, "Contiguous") == ErrorCode::unsupported);
  CHECK(split({{"Regex", "(a"}}, "Isolated") == ErrorCode::invalid_file);
  CHECK(split({{"Regex", "x*"}}, "Isolated") == ErrorCode::ok);
  json empty = good;
  empty["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "x*"}}}, {"behavior", "Isolated"}};
  CHECK_NOTHROW(Tokenizer(empty.dump(), "test").encode("axxb \u00e9"));  // and it ends
  CHECK(with("post_processor",
             {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}}) ==
        ErrorCode::invalid_file);
}
