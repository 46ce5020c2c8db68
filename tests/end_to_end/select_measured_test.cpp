// kvant select --measure, and the plans that kvant run and kvant quantize take, on a real small
// model.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "kvant/io/checkpoint.hpp"
#include "support/catch.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

using Catch::Matchers::Contains;
using kvant::test::kTinyModel;
using kvant::test::kTinyText;
using kvant::test::kvant_failure;
using kvant::test::kvant_program;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;

namespace {

namespace fs = std::filesystem;

/// C++ that the model was not trained on, and that is not what it is judged by: this library's.
void write_gemm_text(const fs::path& file) {
  std::ofstream(file)
      << std::ifstream(std::string(KVANT_SOURCE_DIR) + "/src/cpu/micro/gemm.hpp").rdbuf();
}

/// The beginning of another text.
void write_eval(const fs::path& file) {
  std::string text(4000, ' ');
  std::ifstream(kTinyText).read(text.data(), static_cast<std::streamsize>(text.size()));
  std::ofstream(file) << text;
}

nlohmann::json json_of(const fs::path& file) {
  return nlohmann::json::parse(std::ifstream(file));
}

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("kvant select --measure: a mix at a size beats one format, and runs as it was measured") {
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  write_gemm_text(path("text"));
  write_eval(path("eval"));
  const std::vector<std::string> selection = {"select",
                                              kTinyModel,
                                              "--measure",
                                              path("text"),
                                              "--windows",
                                              "2",
                                              "--window",
                                              "128",
                                              "--formats",
                                              "int3:32,int4:64,int8-group:128,fp16",
                                              "--budget",
                                              "4.3125bits",
                                              "--evaluate",
                                              path("eval"),
                                              "--evaluate-window",
                                              "256",
                                              "--plan",
                                              path("plan.json"),
                                              "--svg",
                                              path("mix.svg"),
                                              "--html",
                                              path("mix.html"),
                                              "--json",
                                              path("mix.json"),
                                              "--quiet",
                                              "--chosen-only",
                                              "--threads",
                                              "1"};
  const ProcessResult made = kvant_program(selection);
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK_THAT(made.out, Contains("divergence (reference int4:64)") && Contains("kvant run"));
  const nlohmann::json found = json_of(path("mix.json"));
  nlohmann::json uniform;
  nlohmann::json chosen;
  for (const auto& point : found["points"]) {
    if (point["label"] == "int4:64") uniform = point;
    if (point["kind"] == "chosen") chosen = point;
  }
  CHECK(chosen["bytes"] <= uniform["bytes"]);
  CHECK(found["gap"] <= 1.001e-3);
  CHECK_THAT(text_of(path("mix.svg")), Contains("</svg>"));
  CHECK_THAT(text_of(path("mix.html")), Contains("</html>") && Contains("int8-group:128"));

  const auto perplexity = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"run",          "--threads",     "1",        kTinyModel,
                                      "--perplexity", path("eval"),    "--window", "256",
                                      "--json",       path("run.json")};
    words.insert(words.end(), more.begin(), more.end());
    const ProcessResult run = kvant_program(words);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return json_of(path("run.json"))["perplexity"].get<double>();
  };
  CHECK(perplexity({"--plan", path("plan.json")}) ==
        Approx(chosen["measured"].get<double>()).epsilon(1e-6));
  CHECK(chosen["measured"] <
        perplexity({"--scheme", "int4", "--group", "64", "--arithmetic", "exact"}));
  CHECK_THAT(kvant_failure({"quantize", kTinyModel, path("out"), "--plan", path("plan.json")}, 1),
             Contains("one quantization") && Contains("kvant run MODEL --plan"));
  CHECK(!fs::exists(path("out")));
  CHECK_THAT(kvant_failure(
                 {"run", kTinyModel, "--plan", path("plan.json"), "--skip", "*", "--ids", "1"}, 2),
             Contains("--skip '*': the plan has transformer.h.0."));
  CHECK_THAT(
      kvant_failure(
          {"run", "--threads", "1", kTinyModel, "--plan", path("mix.json"), "--prompt", "a"}, 1),
      Contains("is no plan of formats"));
}

TEST_CASE("kvant select --measure --write: one quantized format beside floats") {
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  write_gemm_text(path("text"));
  const std::vector<std::string> words = {
      "select", kTinyModel, "--measure",    path("text"),    "--windows", "1",         "--window",
      "64",     "--method", "output-error", "--chosen-only", "--quiet",   "--threads", "1"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const ProcessResult made =
      kvant_program(with({"--formats", "int4:32,fp16", "--budget", "7bits", "--plan",
                          path("plan.json"), "--write", path("out"), "--json"}));
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  const nlohmann::json found = nlohmann::json::parse(made.out);
  CHECK(found["method"] == "output-error (reference int4:64)");
  // The budget is that of the file, with zero points and the index of groups.
  std::uint64_t written = 0;
  const kvant::io::Checkpoint out(path("out"));
  for (const kvant::io::TensorInfo* info : out.tensors()) written += info->bytes;
  std::uint64_t elements = 0;
  std::uint64_t of_layers = 0;
  for (const auto& layer : found["layers"]) {
    elements += layer["shape"][0].get<std::uint64_t>() * layer["shape"][1].get<std::uint64_t>();
    of_layers += layer["bytes"].get<std::uint64_t>();
  }
  CHECK(8 * of_layers <= 7 * elements);
  for (const auto& point : found["points"]) {
    if (point["kind"] == "chosen") CHECK(point["bytes"] == written);
  }
  const ProcessResult verified = kvant_program({"verify", path("out")});
  CHECK(verified.exit_code == 0);
  REQUIRE(kvant_program({"quantize", kTinyModel, path("same"), "--plan", path("plan.json")})
              .exit_code == 0);
  CHECK(text_of(path("same") + "/model.safetensors") ==
        text_of(path("out") + "/model.safetensors"));

  const auto not_with = [&](const std::vector<std::string>& words_of, const char* says) {
    std::vector<std::string> all = {"quantize", kTinyModel, path("no")};
    all.insert(all.end(), words_of.begin(), words_of.end());
    CHECK_THAT(kvant_failure(all, 2), Contains(says));
  };
  not_with({"--plan", path("plan.json"), "--calibrate", path("text")},
           "--calibrate is for llm-int8");
  not_with({"--plan", path("plan.json"), "--threshold", "6"}, "--threshold is for llm-int8");
  not_with({"--scheme", "int4", "--calibrate", path("text")}, "--scheme gptq, awq or smoothquant");
  not_with({"--scheme", "nf4", "--keep-outliers", path("text")}, "--keep-outliers is for llm-int8");
  not_with({"--scheme", "awq", "--as", "gptq", "--calibrate", path("text")},
           "which takes --as awq");

  // The smallest model of a perplexity, as it is measured.
  const ProcessResult small = kvant_program(
      with({"--formats", "int3:32,int4:32,fp16", "--max-perplexity", "70", "--json"}));
  INFO(small.err);
  REQUIRE(small.exit_code == 0);
  const nlohmann::json smallest = nlohmann::json::parse(small.out);
  for (const auto& point : smallest["points"]) {
    if (point["kind"] == "chosen") CHECK(point["measured"] <= 70);
  }

  const auto fails = [&](const std::vector<std::string>& more, int code, const std::string& says) {
    CHECK_THAT(kvant_failure(with(more), code), Contains(says));
  };
  fails({"--budget", "1bits"}, 2, "the smallest mix of these formats takes");
  fails({"--budget", "40dB"}, 2, "decibels are of weights");
  fails({}, 2, "--max-perplexity X");
  fails({"--max-perplexity", "1.01"}, 2, "the floats themselves have");
  fails({"--budget", "4bits", "--formats", "int4:64,int5"}, 2, "int5");
  fails({"--budget", "4bits", "--write", path("no")}, 2, "one quantized format");
  CHECK_THAT(kvant_failure({"select", kTinyModel, "--measure", path("text"), "--budget", "4bits",
                            "--method", "guess"},
                           2),
             Contains("output-error"));
  fails({"--budget", "4bits", "--plan", path("no/such/plan")}, 1, "no/such");
  std::ofstream(path("empty")) << " \n";
  CHECK_THAT(
      kvant_failure({"select", kTinyModel, "--measure", path("empty"), "--budget", "4bits"}, 1),
      Contains("holds no text"));
  CHECK_THAT(kvant_failure({"select", kTinyModel, "--budget", "4bits", "--plan", path("p")}, 2),
             Contains("--measure"));
}
