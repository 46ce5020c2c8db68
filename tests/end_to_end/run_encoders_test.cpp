// kvant run with models that have encoders: what T5 answers, what BERT fills in, and flags that
// make no sense for them.

#include <filesystem>
#include <fstream>
#include <kvant/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::test::kvant_run;
using kvant::test::kvant_run_failure;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;
using nlohmann::json;

const std::string kEncoders = std::string(KVANT_TEST_DATA) + "/encoders/";

/// A model's folder with a tokenizer of single words; id n of the model is the word "wn".
std::string with_tokenizer(const TempFolder& folder, const char* model, const char* type) {
  const std::filesystem::path path = folder.path() / model;
  std::filesystem::copy(kEncoders + model, path);
  const bool unigram = std::string(type) == "Unigram";
  json vocabulary = unigram ? json::array() : json::object();
  const std::vector<std::string> special = {"<pad>", unigram ? "</s>" : "[SEP]", "[UNK]", "[MASK]"};
  json added = json::array();
  for (int id = 0; id < 100; ++id) {
    const auto index = static_cast<std::size_t>(id);
    std::string word = id < 4 ? special[index] : "w" + std::to_string(id);
    if (id < 4) added.push_back({{"id", id}, {"content", word}, {"special", true}});
    if (unigram) {
      vocabulary.push_back({(id < 4 ? "" : "\u2581") + word, -1.0 - 0.01 * id});
    } else {
      vocabulary[word] = id;
    }
  }
  json tokenizer = {
      {"added_tokens", added},
      {"model", {{"type", type}, {"vocab", vocabulary}, {"unk_id", 2}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", special[1]}}}}}},
        {"special_tokens", {{special[1], {{"id", special[1]}, {"ids", {1}}}}}}}},
      {"pre_tokenizer", {{"type", unigram ? "Metaspace" : "BertPreTokenizer"}}},
      {"decoder", {{"type", unigram ? "Metaspace" : "WordPiece"}}}};
  std::ofstream(path / "tokenizer.json") << tokenizer;
  return path.string();
}

}  // namespace

TEST_CASE("kvant run: T5 answers a text") {
  const TempFolder folder;
  const std::string model = with_tokenizer(folder, "t5_gated", "Unigram");
  const std::string file = (folder.path() / "json").string();
  const ProcessResult result = kvant_run({model, "--prompt", "w5 w6 w7", "--tokens", "6", "--json",
                                          file, "--scheme", "int8", "--ignore-eos"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const json found = json::parse(kvant::test::read_text(file));
  CHECK(found.at("prompt_ids") == json({5, 6, 7, 1}));
  CHECK(found.at("generated_ids").size() == 6);
  CHECK(found.at("text").get<std::string>() + "\n" == result.out);
  CHECK(result.out.front() != ' ');

  const std::string logits = (folder.path() / "logits").string();
  const std::string hidden = (folder.path() / "hidden").string();
  CHECK(kvant_run({model, "--ids", "5,6,7", "--decoder-ids", "0,9", "--logits", logits, "--hidden",
                   hidden, "--kv", "int8"})
            .exit_code == 0);
  using Shape = std::vector<std::uint64_t>;
  CHECK(kvant::io::SafeTensors(logits).tensor("logits").info->shape == Shape{2, 100});
  CHECK(kvant::io::SafeTensors(hidden).tensor("hidden").info->shape == Shape{3, 32});

  // Calibrated on a text, the outlier columns of both stacks are kept.
  const std::string text = folder.write("text", "w5 w6 w7 w8 w9").string();
  const std::string out = (folder.path() / "out").string();
  CHECK(
      kvant::test::kvant_program({"quantize", model, out, "--calibrate", text, "--threshold", "2"})
          .exit_code == 0);
  CHECK(kvant_run({out, "--ids", "5,6,7", "--tokens", "3"}).exit_code == 0);

  CHECK(kvant_run_failure({model, "--perplexity", file}, 2).find("perplexity") !=
        std::string::npos);
  CHECK(kvant_run_failure({model, "--chat", "w5"}, 1).find("template") != std::string::npos);
}

TEST_CASE("kvant run: BERT fills in its masks and gives hidden states") {
  const TempFolder folder;
  const std::string model = with_tokenizer(folder, "bert_masked", "WordPiece");
  const std::string file = (folder.path() / "json").string();
  const ProcessResult result =
      kvant_run({model, "--prompt", "w5 [MASK] w7 [MASK]", "--json", file, "--scheme", "llm-int8"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const json found = json::parse(kvant::test::read_text(file));
  CHECK(found.at("prompt_ids") == json({5, 3, 7, 3, 1}));
  REQUIRE(found.at("masks").size() == 2);
  CHECK(found.at("masks")[1].at("position") == 3);
  CHECK(found.at("masks")[1].at("candidates").size() == 5);
  CHECK(result.out.find(found.at("text").get<std::string>() + "\nmask 1 ") == 0);

  const std::string hidden = (folder.path() / "hidden").string();
  CHECK(kvant_run({model, "--prompt", "w5 w6", "--hidden", hidden}).exit_code == 0);
  using Shape = std::vector<std::uint64_t>;
  CHECK(kvant::io::SafeTensors(hidden).tensor("hidden").info->shape == Shape{3, 32});
  const std::string logits = (folder.path() / "logits").string();
  CHECK(kvant_run({model, "--ids", "5,6", "--logits", logits}).exit_code == 0);
  CHECK(kvant::io::SafeTensors(logits).tensor("logits").info->shape == Shape{2, 100});

  CHECK(kvant_run_failure({model, "--prompt", "w5"}, 2).find("[MASK]") != std::string::npos);
  CHECK(kvant_run_failure({model, "--ids", "5"}, 2).find("--hidden") != std::string::npos);
  CHECK(kvant_run_failure({model, "--prompt", "[MASK]", "--tokens", "3", "--top-k", "2"}, 2)
            .find("--tokens, --top-k") != std::string::npos);
  CHECK(kvant_run_failure({model, "--chat", "w5"}, 2).find("--chat") != std::string::npos);
  CHECK(kvant_run_failure({kEncoders + "bert", "--ids", "5", "--logits", logits}, 1).find("head") !=
        std::string::npos);
}

TEST_CASE("kvant convert: T5 and BERT run from GGUF files as from their folders") {
  const TempFolder folder;
  const auto change = [](const std::string& file, const json& changes) {
    json content = json::parse(kvant::test::read_text(file));
    content.merge_patch(changes);
    std::ofstream(file) << content;
  };
  const std::string t5 = with_tokenizer(folder, "t5_gated", "Unigram");
  change(t5 + "/config.json", {{"relative_attention_max_distance", 128}});
  const std::string bert = with_tokenizer(folder, "bert", "WordPiece");
  change(bert + "/tokenizer.json",
         {{"normalizer", {{"type", "BertNormalizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"}, {"cls", {"<pad>", 0}}, {"sep", {"[SEP]", 1}}}}});
  const auto convert = [](const std::string& from, const std::string& to, const char* type) {
    std::vector<std::string> words = {"convert", from, to};
    if (type != nullptr) words.insert(words.end(), {"--type", type});
    const ProcessResult result = kvant::test::kvant_program(words);
    INFO(result.err);
    CHECK(result.exit_code == 0);
  };
  const auto file_of = [](const std::string& model) { return model + ".gguf"; };
  for (const std::string& model : {t5, bert}) {
    INFO(model);
    convert(model, file_of(model), "f32");
    convert(file_of(model), model + "_back", nullptr);
    CHECK(kvant::test::kvant_program({"verify", file_of(model)}).exit_code == 0);
    const ProcessResult contents =
        kvant::test::kvant_program({"inspect", file_of(model), "--json"});
    REQUIRE(contents.exit_code == 0);
    CHECK(json::parse(contents.out).at("architecture") == (model == t5 ? "t5" : "bert"));
  }
  const auto answer = [](const std::string& model) {
    const ProcessResult result = kvant_run({model, "--prompt", "w5 w6 w7", "--tokens", "6"});
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result.out;
  };
  const std::string wanted = answer(t5);
  CHECK_FALSE(wanted.empty());
  CHECK(answer(file_of(t5)) == wanted);
  CHECK(answer(t5 + "_back") == wanted);
  const auto rows = [&](const std::string& model) {
    const std::string hidden = (folder.path() / "hidden").string();
    const ProcessResult result = kvant_run({model, "--prompt", "w5 W6", "--hidden", hidden});
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return kvant::io::SafeTensors(hidden).values<float>("hidden");
  };
  const std::vector<float> hidden = rows(bert);
  CHECK(hidden.size() == 4 * 32);
  CHECK(rows(file_of(bert)) == hidden);
  CHECK(rows(bert + "_back") == hidden);
  // Blocks are multiplied as they are stored.
  convert(t5, t5 + "_q8.gguf", "q8_0");
  CHECK(kvant_run({t5 + "_q8.gguf", "--prompt", "w5 w6", "--tokens", "6"}).exit_code == 0);
  // The head that fills in masks has no place there.
  const ProcessResult masked = kvant::test::kvant_program(
      {"convert", kEncoders + "bert_masked", (folder.path() / "masked.gguf").string()});
  CHECK(masked.exit_code == 1);
  CHECK(masked.err.find("cannot say") != std::string::npos);
}

TEST_CASE("kvant quantize: models with encoders run as they were quantized") {
  const TempFolder folder;
  for (const char* model : {"bert_masked", "roberta", "t5", "t5_gated"}) {
    for (const char* scheme : {"llm-int8", "nf4", "fp8"}) {
      INFO(model << " " << scheme);
      const std::string out = (folder.path() / model).string();
      const ProcessResult made = kvant::test::kvant_program(
          {"quantize", kEncoders + model, out, "--scheme", scheme, "--force"});
      INFO(made.err);
      REQUIRE(made.exit_code == 0);
      const std::string a = (folder.path() / "a").string();
      const std::string b = (folder.path() / "b").string();
      std::vector<std::string> words = {out, "--ids", "5,6,7,8", "--logits", a};
      const ProcessResult stored = kvant_run(words);
      INFO(stored.err);
      CHECK(stored.exit_code == 0);
      // The same layers in the same codes: what stays in float does so in both.
      if (std::string(scheme) == "llm-int8") {
        REQUIRE(kvant_run({out, "--ids", "5,6,7,8", "--logits", a, "--mode", "bitsandbytes"})
                    .exit_code == 0);
        REQUIRE(kvant_run({kEncoders + model, "--ids", "5,6,7,8", "--logits", b, "--scheme", scheme,
                           "--mode", "bitsandbytes"})
                    .exit_code == 0);
        CHECK(kvant::io::SafeTensors(a).values<float>("logits") ==
              kvant::io::SafeTensors(b).values<float>("logits"));
      }
    }
  }
}
