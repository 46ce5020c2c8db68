// The command line of gpt_bigcode, by running the program: exit codes, one line on stderr, streams,
// --json and --logits, and the memory it takes to load.

#include <algorithm>
#include <cmath>
#include <kvant/io/checkpoint.hpp>
#include <kvant/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "models/deep_model.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"

namespace {

using kvant::test::kFp32Model;
using kvant::test::kTinyModel;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;
using nlohmann::json;

const std::string kGptBigcode = std::string(KVANT_PROGRAM_DIR) + "/gpt_bigcode";

ProcessResult run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kGptBigcode);
  return kvant::test::run_process(arguments);
}

/// Runs, and checks that it failed as the contract says; returns the line.
std::string failure(const std::vector<std::string>& arguments, int code) {
  const ProcessResult result = run(arguments);
  std::string all;
  for (const std::string& argument : arguments) all += argument.substr(0, 60) + " ";
  INFO(all << "\n" << result.err);
  CHECK(result.exit_code == code);
  CHECK(result.out.empty());
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find("gpt_bigcode: ") == 0);
  return result.err;
}

}  // namespace

TEST_CASE("command line: usage errors are one line and 2") {
  using Catch::Matchers::Contains;
  failure({}, 2);
  failure({kTinyModel}, 2);
  failure({"--nonsense"}, 2);
  failure({kTinyModel, "--ids", "1", "--nonsense"}, 2);
  failure({kTinyModel, kTinyModel, "--ids", "1"}, 2);
  CHECK_THAT(failure({kTinyModel, "--ids", "1", "--scheme", "int9"}, 2), Contains("int8-tensor"));
  failure({kTinyModel, "--ids", "1", "--mode", "fast"}, 2);
  failure({kTinyModel, "--ids", "1,,2"}, 2);
  failure({kTinyModel, "--ids", ""}, 2);
  failure({kTinyModel, "--ids", "1;2"}, 2);
  failure({kTinyModel, "--ids", "99999999999999"}, 2);
  failure({kTinyModel, "--ids", "1", "--prompt", "x"}, 2);
  failure({kTinyModel, "--logits", "out.safetensors"}, 2);
  failure({kTinyModel, "--prompt", "x", "--window", "5"}, 2);
  failure({kTinyModel, "--perplexity", "x", "--window", "1"}, 2);
  failure({kTinyModel, "--ids", "1", "--threads", "0"}, 2);
  failure({kTinyModel, "--ids", "1", "--threads", "-1"}, 2);
  failure({kTinyModel, "--ids", "1", "--threads", "1000000"}, 2);
  failure({kTinyModel, "--ids", "1", "--threads", "two"}, 2);
  failure({kTinyModel, "--ids", "1", "--tokens", "-1"}, 2);
  failure({kTinyModel, "--ids", "1", "--threshold", "nan"}, 2);
  failure({kTinyModel, "--ids", "1", "--threshold", "-1"}, 2);
  failure({kTinyModel, "--ids", "1", "--threshold", "6"}, 2);  // fp32 has none
  failure({kTinyModel, "--ids", "1", "--mode", "bitsandbytes"}, 2);
  failure({kTinyModel, "--ids", "1", "--calibrate", "x"}, 2);
  failure({kTinyModel, "--ids", "1", "--skip", "no.such.layer"}, 2);
}

TEST_CASE("command line: missing files and wrong data are one line and 1") {
  const TempFolder folder;
  const std::string missing = (folder.path() / "missing").string();
  failure({missing, "--ids", "1"}, 1);
  failure({folder.path().string(), "--ids", "1"}, 1);
  failure({kTinyModel, "--perplexity", missing}, 1);
  failure({kTinyModel, "--perplexity", folder.path().string()}, 1);
  failure({kTinyModel, "--scheme", "llm-int8", "--ids", "1", "--calibrate", missing}, 1);
  failure({kFp32Model, "--prompt", "needs a tokenizer"}, 1);
  failure({kFp32Model, "--ids", "99"}, 1);
  failure({kTinyModel, "--perplexity", folder.write("empty", "")}, 1);
  failure({kTinyModel, "--perplexity", kTinyModel + "/config.json", "--window", "257"}, 1);
  failure({kFp32Model, "--ids", "1", "--logits", (folder.path() / "no/such/folder").string()}, 1);
  std::filesystem::create_directory(folder.path() / "broken");
  folder.write("broken/config.json", "{\"n_head\": \"many\nlines\"}");
  failure({(folder.path() / "broken").string(), "--ids", "1"}, 1);
}

TEST_CASE("command line: a full disk is reported") {
  if (!std::filesystem::exists("/dev/full")) return;
  const ProcessResult result = kvant::test::run_process(
      {kGptBigcode, kFp32Model, "--ids", "1", "--tokens", "2"}, "/dev/full");
  CHECK(result.exit_code == 1);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(run({kFp32Model, "--ids", "1", "--logits", "/dev/full"}).exit_code == 1);
}

TEST_CASE("command line: help begins with an example") {
  const ProcessResult result = run({"--help"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  CHECK(result.out.find("Example:\n  gpt_bigcode ") == 0);
}

TEST_CASE("command line: generation, streamed and in json") {
  const TempFolder folder;
  const std::string file = (folder.path() / "out.json").string();
  const ProcessResult result =
      run({kTinyModel, "--scheme", "llm-int8", "--prompt", "size_type size() ", "--tokens", "12",
           "--threads", "2", "--json", file});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());  // quiet in a pipe
  const json report = json::parse(kvant::test::read_text(file));
  CHECK(report.at("scheme") == "llm-int8");
  CHECK(report.at("mode") == "default");
  CHECK(report.at("threshold") == 6.0);
  CHECK(report.at("threads") == 2);
  CHECK(report.at("isa").is_string());
  CHECK(report.at("weight_bytes").get<std::int64_t>() > 3'000'000);
  CHECK(report.at("tokens_per_second").get<double>() > 0);
  CHECK(report.at("prompt_ids").size() > 2);
  CHECK(report.at("generated_ids").size() == 12);
  CHECK(report.at("text").get<std::string>() + "\n" == result.out);
  CHECK_FALSE(report.contains("perplexity"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("command line: perplexity") {
  const TempFolder folder;
  const std::string text = folder.write("text", "int main()\n{\n    return 0;\n}\n").string();
  const std::string file = (folder.path() / "out.json").string();
  const ProcessResult result =
      run({kTinyModel, "--perplexity", text, "--window", "8", "--json", file});
  CHECK(result.exit_code == 0);
  const json report = json::parse(kvant::test::read_text(file));
  CHECK(report.at("scheme") == "fp32");
  const auto nll = report.at("nll").get<double>();
  CHECK(std::fabs(report.at("perplexity").get<double>() - std::exp(nll)) < 1e-9);
  CHECK(report.at("tokens").get<int>() > 5);
  CHECK(result.out.find("perplexity  ") != std::string::npos);
}

TEST_CASE("command line: logits and ids need no tokenizer") {
  const TempFolder folder;
  const std::string file = (folder.path() / "logits.safetensors").string();
  const ProcessResult result = run({kFp32Model, "--ids", "1,7,42", "--logits", file});
  CHECK(result.exit_code == 0);
  CHECK(result.out.empty());
  const kvant::io::SafeTensors logits(file);
  CHECK(logits.matrix<float>("logits").rows() == 3);
  CHECK(logits.matrix<float>("logits").cols() == 99);
  CHECK(run({kFp32Model, "--ids", "1,7,42,98,3,3", "--tokens", "4"}).out == "59,59,37,34\n");
  // Both at once if both were asked for.
  CHECK(run({kFp32Model, "--ids", "1,7,42,98,3,3", "--tokens", "2", "--logits", file}).out ==
        "59,59\n");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("command line: loading stays within the int8 model, one block in float and 64 MiB") {
  // 300 MB on disk.
  const TempFolder folder;
  const std::size_t block = kvant::test::write_deep_model(folder.path(), 24, 99, 40);
  const std::string report = (folder.path() / "out.json").string();
  for (const std::vector<std::string>& scheme : {std::vector<std::string>{"llm-int8"},
                                                 {"llm-int8", "--mode", "bitsandbytes"},
                                                 {"int8-tensor"}}) {
    std::vector<std::string> arguments = {folder.path().string(),
                                          "--ids",
                                          "1,2,3,4,5,6,7",
                                          "--tokens",
                                          "1",
                                          "--json",
                                          report,
                                          "--scheme"};
    arguments.insert(arguments.end(), scheme.begin(), scheme.end());
    const ProcessResult result = run(arguments);
    REQUIRE(result.exit_code == 0);
    const auto weights =
        json::parse(kvant::test::read_text(report)).at("weight_bytes").get<std::size_t>();
    INFO("peak " << result.peak_bytes << ", weights " << weights << ", block " << block);
    CHECK(result.peak_bytes < weights + block + (64u << 20));
  }
}
#endif
