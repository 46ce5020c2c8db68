// kvant run: what it prints and writes, exit codes, Ctrl-C.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <kvant/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "support/catch.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::test::kTinyModel;
using kvant::test::kvant_run;
using kvant::test::kvant_run_failure;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;
using nlohmann::json;

const std::string kFamilies = std::string(KVANT_TEST_DATA) + "/families/";

}  // namespace

TEST_CASE("kvant run: as gpt_bigcode, the same ids and fields") {
  const TempFolder folder;
  const auto both = [&](std::vector<std::string> words) {
    words.insert(words.begin(), kTinyModel);
    words.insert(words.end(), {"--json", (folder.path() / "json").string()});
    REQUIRE(kvant_run(words).exit_code == 0);
    json mine = json::parse(kvant::test::read_text(folder.path() / "json"));
    words.insert(words.begin(), std::string(KVANT_PROGRAM_DIR) + "/gpt_bigcode");
    REQUIRE(kvant::test::run_process(words).exit_code == 0);
    json theirs = json::parse(kvant::test::read_text(folder.path() / "json"));
    for (json* each : {&mine, &theirs}) each->at("tokens_per_second") = 0;
    for (const char* more : {"bytes_read", "embeddings"}) CHECK(mine.erase(more) == 1);
    CHECK(mine == theirs);
  };
  both({"--ids", "1,2,3", "--tokens", "8", "--scheme", "llm-int8"});
  both({"--prompt", "int main", "--tokens", "8", "--scheme", "int8"});
  const std::string text = folder.write("text", "int main() { return 0; }\n").string();
  both({"--perplexity", text, "--window", "8", "--scheme", "llm-int8", "--mode", "bitsandbytes"});
}

TEST_CASE("kvant run: every family, and the logits that it writes") {
  const TempFolder folder;
  const std::string out = (folder.path() / "logits").string();
  const ProcessResult result =
      kvant_run({kFamilies + "qwen3", "--ids", "5,6,7", "--logits", out, "--tokens", "4",
                 "--ignore-eos", "--scheme", "int8-group"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(std::count(result.out.begin(), result.out.end(), ',') == 3);
  const kvant::io::SafeTensors logits(out);
  CHECK(logits.tensor("logits").info->shape == std::vector<std::uint64_t>{3, 100});
}

TEST_CASE("kvant run: outliers of int4, and stored layers that had to be expanded") {
  const TempFolder folder;
  const std::string file = (folder.path() / "json").string();
  const auto report = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--ids", "5,6,7", "--tokens", "2", "--json", file});
    const ProcessResult result = kvant_run(words);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    json found = json::parse(kvant::test::read_text(file));
    found["err"] = result.err;
    return found;
  };
  CHECK(report({kTinyModel, "--scheme", "int4"}).at("threshold") == 6.0);
  CHECK(report({kTinyModel, "--scheme", "int4", "--threshold", "0"}).at("threshold") == 0.0);
  CHECK(report({kTinyModel, "--scheme", "nf4", "--outliers", "per-row"}).at("threshold") == 6.0);
  kvant_run_failure({kTinyModel, "--scheme", "int4", "--outliers", "some", "--ids", "1"}, 2);
  kvant_run_failure({kTinyModel, "--outliers", "per-row", "--ids", "1"}, 2);  // fp32 has none

  const std::string data = KVANT_TEST_DATA;
  const json expanded = report({data + "/compressed_tensors/w8a8_asym"});
  CHECK(expanded.at("expanded_layers").size() > 1);
  CHECK(expanded.at("err").get<std::string>().find("layers are held in float32") !=
        std::string::npos);
  const json kept = report({data + "/gptq_awq/gptq_4bit_g32_asym_act"});
  CHECK_FALSE(kept.contains("expanded_layers"));
}

TEST_CASE("kvant run: sampling is told by its seed") {
  const auto drawn = [](const char* seed) {
    return kvant_run({kTinyModel, "--prompt", "class ", "--tokens", "12", "--temperature", "1.5",
                      "--top-k", "50", "--top-p", "0.95", "--seed", seed})
        .out;
  };
  CHECK(drawn("1") == drawn("1"));
  CHECK(drawn("1") != drawn("2"));
}

TEST_CASE("kvant run: a conversation") {
  using Catch::Matchers::Contains;
  CHECK_THAT(kvant_run_failure({kTinyModel, "--chat", "hi"}, 1), Contains("has no chat template"));
  CHECK(
      kvant_run({kTinyModel, "--chat", "hi", "--template", "chatml", "--tokens", "2"}).exit_code ==
      0);
  // A template beside the model is recognized.
  const TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    std::filesystem::create_symlink(std::filesystem::path(kTinyModel) / name, folder.path() / name);
  }
  folder.write("chat_template.jinja", "<|im_start|>");
  CHECK_THAT(kvant_run_failure({folder.path().string(), "--chat", "hi"}, 1),
             Contains("looks like chatml") && Contains("--template chatml"));
  std::filesystem::remove(folder.path() / "chat_template.jinja");
  json tokenizer = json::parse(kvant::test::read_text(std::string(kTinyModel) + "/tokenizer.json"));
  json added = {{"special", true}};
  for (const char* token : {"<end_of_turn>", "<|im_end|>"}) {
    added.update({{"id", 100 + tokenizer["added_tokens"].size()}, {"content", token}});
    tokenizer["added_tokens"].push_back(added);
  }
  std::filesystem::remove(folder.path() / "tokenizer.json");
  folder.write("tokenizer.json", tokenizer.dump());
  const auto ids_with = [&](const char* name, const std::string& contents) {
    folder.write(name, contents);
    const std::string out = (folder.path() / "json").string();
    CHECK(kvant_run({folder.path().string(), "--chat", "hi", "--tokens", "1", "--json", out})
              .exit_code == 0);
    return json::parse(kvant::test::read_text(out)).at("prompt_ids");
  };
  const json gemma =
      ids_with("tokenizer_config.json", json({{"chat_template", "<start_of_turn>"}}).dump());
  const json chatml = ids_with("chat_template.jinja", "<|im_start|>");
  CHECK(gemma != chatml);
  folder.write("chat_template.jinja", "{{ messages }}");
  CHECK_THAT(kvant_run_failure({folder.path().string(), "--chat", "hi"}, 1),
             Contains("no known form"));
}

TEST_CASE("kvant run: int15 is near exact arithmetic, and the report says which it was") {
  const TempFolder folder;
  const auto run = [&](const std::string& arithmetic) {
    const std::string report = (folder.path() / "json").string();
    const std::string logits = (folder.path() / "logits.safetensors").string();
    REQUIRE(kvant_run({kTinyModel, "--scheme", "int4", "--arithmetic", arithmetic, "--ids",
                       "1,7,42,300", "--logits", logits, "--json", report})
                .exit_code == 0);
    CHECK(json::parse(kvant::test::read_text(report)).at("arithmetic") == arithmetic);
    return kvant::io::SafeTensors(logits).values<float>("logits");
  };
  const std::vector<float> exact = run("exact");
  const auto largest_error = [&](const std::vector<float>& logits) {
    float largest = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      largest = std::max(largest, std::fabs(logits.at(i) - exact[i]));
    }
    return largest;
  };
  const float int15 = largest_error(run("int15"));
  const float int8 = largest_error(run("int8"));
  INFO("int15 " << int15 << ", int8 " << int8);
  CHECK(int15 > 0.0f);
  CHECK(int15 < int8 / 2);  // (one feature reaches hundreds here, and int8 takes it apart)
}

TEST_CASE("kvant run: wrong words are one line and 2, wrong files are one line and 1") {
  using Catch::Matchers::Contains;
  kvant_run_failure({}, 2);
  kvant_run_failure({kTinyModel}, 2);
  CHECK_THAT(kvant_run_failure({kTinyModel, "--ids", "1", "--scheme", "int9"}, 2),
             Contains("int8-group"));
  kvant_run_failure({kTinyModel, "--ids", "1", "--mode", "fast"}, 2);
  kvant_run_failure({kTinyModel, "--ids", "1;2"}, 2);
  kvant_run_failure({kTinyModel, "--ids", "1", "--arithmetic", "float"}, 2);
  kvant_run_failure({kTinyModel, "--ids", "1", "--scheme", "int8", "--arithmetic", "exact"}, 2);
  CHECK_THAT(kvant_run_failure({kTinyModel, "--ids", "1", "--arithmetic", "int15"}, 2),
             Contains("int15"));
  kvant_run_failure({kTinyModel, "--prompt", "x", "--chat", "x"}, 2);
  kvant_run_failure({kTinyModel, "--prompt", "x", "--window", "5"}, 2);
  kvant_run_failure({kTinyModel, "--prompt", "x", "--system", "y"}, 2);
  kvant_run_failure({kTinyModel, "--chat", "x", "--template", "y"}, 2);
  kvant_run_failure({kTinyModel, "--prompt", "x", "--temperature", "-1"}, 2);
  kvant_run_failure({kTinyModel, "--prompt", "x", "--top-p", "0"}, 2);
  kvant_run_failure({kTinyModel, "--prompt", "x", "--top-k", "-1"}, 2);
  CHECK_THAT(kvant_run_failure({kTinyModel, "--prompt", "x", "--seed", "18446744073709551616"}, 2),
             Contains("2^64 - 1"));
  kvant_run_failure({kTinyModel, "--prompt", "x", "--seed", "-1"}, 2);
  kvant_run_failure({kTinyModel, "--ids", "1", "--logits", "/tmp/x", "--json", "/tmp/x"}, 2);
  kvant_run_failure({"/nonexistent", "--ids", "1"}, 1);
  kvant_run_failure({kTinyModel, "--ids", "1", "--logits", "/nonexistent/x"}, 1);
  kvant_run_failure({kFamilies + "qwen3", "--prompt", "x"}, 1);  // no tokenizer.json
  kvant_run_failure({kFamilies + "qwen3", "--ids", "100"}, 1);   // outside the vocabulary
  const TempFolder folder;
  folder.write("config.json", R"({"model_type": "mamba"})");
  CHECK_THAT(kvant_run_failure({folder.path().string(), "--ids", "1"}, 1),
             Contains("\"mamba\" is not one of") && Contains("starcoder2"));
}

TEST_CASE("kvant run: Ctrl-C ends the text, and the report is written") {
  const TempFolder folder;
  const std::string report = (folder.path() / "json").string();
  const std::string out = (folder.path() / "out").string();
  std::vector<std::string> words = {std::string(KVANT_PROGRAM_DIR) + "/kvant",
                                    "run",
                                    kFamilies + "llama_rope3",
                                    "--ids",
                                    "5,6,7",
                                    "--tokens",
                                    "1000000000",
                                    "--ignore-eos",
                                    "--json",
                                    report};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    if (std::freopen(out.c_str(), "w", stdout) == nullptr ||
        std::freopen((folder.path() / "err").c_str(), "w", stderr) == nullptr) {
      ::_exit(126);
    }
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  for (int i = 0; i < 1000; ++i) {  // until it generates
    std::error_code ignored;
    if (std::filesystem::exists(out) && std::filesystem::file_size(out, ignored) > 20) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(kvant::test::read_text(folder.path() / "err") == "kvant: interrupted\n");
  const json written = json::parse(kvant::test::read_text(report));
  CHECK(written.at("generated_ids").size() > 5);
}
