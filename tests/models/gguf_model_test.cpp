// Models and tokenizers in GGUF files.

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/models/chat.hpp"
#include "kvant/models/model_files.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::models::ModelFiles;
using kvant::models::TokenId;
using kvant::test::ids_in;
using kvant::test::kFamilies;
using kvant::test::largest_difference;
using kvant::test::load_files;
using kvant::test::logits_of;
using Ids = std::vector<TokenId>;

const std::filesystem::path kModels = kvant::test::kData / "gguf/models";

}  // namespace

TEST_CASE("gguf models: logits and greedy ids of transformers on the dequantized weights") {
  kvant::Context context;
  for (const char* name : {"llama_Q4_0", "llama_F16"}) {
    INFO(name);
    const ModelFiles files(kModels / (std::string(name) + ".gguf"));
    const kvant::io::SafeTensors expected(kModels / (std::string(name) + ".expected.safetensors"));
    const kvant::models::Model model = load_files(context, files);
    const Ids ids = ids_in(expected, "input_ids");
    CHECK(largest_difference(logits_of(context, model, ids), expected.values<float>("logits")) <=
          1e-5);
    const Ids wanted = ids_in(expected, "greedy");
    Ids greedy(wanted.begin(), wanted.begin() + 8);
    kvant::models::GenerateOptions options;
    options.tokens = 16;
    options.ignore_eos = true;
    const Ids more = kvant::models::generate(context, model, greedy, options);
    greedy.insert(greedy.end(), more.begin(), more.end());
    CHECK(greedy == wanted);
    CHECK_NOTHROW(logits_of(context, load_files(context, files, "llm-int8"), ids));
  }
}

TEST_CASE("gguf models: the folder's logits: reordered q and k, rope_freqs, another family") {
  kvant::Context context;
  const auto logits = [&](const char* file, const char* folder) {
    const kvant::io::SafeTensors expected(kFamilies / folder / "expected.safetensors");
    const kvant::models::Model model = load_files(context, ModelFiles(kModels / file));
    return largest_difference(logits_of(context, model, ids_in(expected, "input_ids")),
                              expected.values<float>("logits"));
  };
  CHECK(logits("llama_rope3_F32.gguf", "llama_rope3") <= 1e-5);
  CHECK(logits("qwen3_Q8_0.gguf", "qwen3") <= 0.1);  // what 8 bits leave
}

TEST_CASE("gguf models: tokenizers and templates in the metadata") {
  const auto folder = std::filesystem::path(KVANT_TEST_DATA) / "tokenizers";
  const auto reference = nlohmann::json::parse(kvant::test::read_text(folder / "reference.json"));
  const auto texts = reference.at("texts").get<std::vector<std::string>>();
  const auto check = [&](const char* file, const char* name) {
    const kvant::models::Tokenizer tokenizer = ModelFiles(kModels / file).tokenizer();
    const auto& expected = reference.at("tokenizers").at(name);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      INFO(name << ": " << texts[i]);
      const Ids ids = tokenizer.encode(texts[i]);
      CHECK(ids == expected.at("ids")[i].get<Ids>());
      CHECK(tokenizer.decode(ids) == expected.at("decoded")[i].get<std::string>());
    }
  };
  check("qwen3_Q8_0.gguf", "qwen2");
  check("llama_rope3_F32.gguf", "llama2");
  CHECK(ModelFiles(kModels / "llama_rope3_F32.gguf").tokenizer().prefix() == Ids{1});
  const auto chat = kvant::models::recognize_chat_template(
      ModelFiles(kModels / "qwen3_Q8_0.gguf").chat_template());
  REQUIRE(chat.has_value());
  CHECK(chat->form == kvant::models::ChatForm::chatml);
}

TEST_CASE("gguf models: any byte of the header may be changed, and it is a model or an error") {
  const kvant::test::TempFolder folder;
  const std::string whole = kvant::test::read_text(kModels / "llama_Q4_0.gguf");
  const std::filesystem::path path = folder.path() / "changed.gguf";
  kvant::Context context;
  for (std::size_t at = 0; at < 600; at += 3) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x55);
    std::ofstream(path, std::ios::binary) << changed;
    try {
      const ModelFiles files(path);
      (void)load_files(context, files);
    } catch (const kvant::Error&) {
      continue;
    }
  }
  CHECK(kvant::test::code_of([&] { ModelFiles files(folder.path() / "none.gguf"); }) ==
        kvant::ErrorCode::io);
  CHECK(kvant::test::code_of([&] {
          ModelFiles files(std::filesystem::path(KVANT_TEST_DATA) / "gguf/tiny.gguf");
        }) == kvant::ErrorCode::unsupported);  // general.architecture "demo"
}
