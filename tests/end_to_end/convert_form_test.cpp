// kvant convert, and kvant run on what came: exit codes, messages, the scheme of a quantized
// folder.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::test::kvant_failure;
using kvant::test::kvant_program;
using kvant::test::ProcessResult;
using kvant::test::TempFolder;
using nlohmann::json;

const std::string kGptq = std::string(KVANT_TEST_DATA) + "/gptq_awq/gptq_4bit_g32_sym";
const std::string kActOrder = std::string(KVANT_TEST_DATA) + "/gptq_awq/gptq_4bit_g32_asym_act";
const std::string kFp8 = std::string(KVANT_TEST_DATA) + "/compressed_tensors/fp8_block";

}  // namespace

TEST_CASE("kvant convert --as: GPTQ to AWQ, valid, and the same ids when it runs") {
  const TempFolder folder;
  const std::string out = (folder.path() / "awq").string();
  const ProcessResult dry = kvant_program({"convert", kGptq, out, "--as", "awq", "--dry-run"});
  CHECK(dry.exit_code == 0);
  CHECK(dry.out.find("14 of 14 linear layers converted") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
  const ProcessResult done = kvant_program({"convert", kGptq, out, "--as", "awq"});
  INFO(done.err);
  CHECK(done.exit_code == 0);
  CHECK(kvant_program({"verify", out}).exit_code == 0);
  std::vector<json> results;
  for (const std::string& model : {kGptq, out}) {
    const std::string file = (folder.path() / "json").string();
    const ProcessResult run = kvant_program(
        {"run", model, "--ids", "5,6,7", "--tokens", "8", "--arithmetic", "exact", "--json", file});
    INFO(run.err);
    CHECK(run.exit_code == 0);
    results.push_back(json::parse(kvant::test::read_text(file)));
    CHECK(results.back().at("scheme") == "stored");
  }
  CHECK(results[0].at("generated_ids") == results[1].at("generated_ids"));
  CHECK(results[0].at("weight_bytes") == results[1].at("weight_bytes"));
}

TEST_CASE("kvant convert --as: what is wrong is one line") {
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  CHECK(kvant_failure({"convert", kActOrder, out, "--as", "awq"}, 1)
            .find("has groups in the order of its activations (g_idx), which AWQ cannot hold") !=
        std::string::npos);
  CHECK(kvant_failure({"convert", kFp8, out, "--as", "gptq"}, 1)
            .find("is stored as compressed-tensors has it") != std::string::npos);
  CHECK(kvant_failure({"convert", kGptq, out, "--as", "exl2"}, 2).find("exl2") !=
        std::string::npos);
  CHECK(kvant_failure({"convert", kGptq + "/model.safetensors", out, "--as", "awq"}, 2)
            .find("is not a folder") != std::string::npos);
  CHECK(kvant_failure({"convert", kGptq, out}, 2).find("--as") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("kvant run: the scheme stored is for quantized folders") {
  CHECK(kvant_failure({"run", std::string(KVANT_TEST_DATA) + "/families/qwen3", "--ids", "5",
                       "--scheme", "stored"},
                      2)
            .find("this one holds floats") != std::string::npos);
  CHECK(kvant_program({"run", kFp8, "--ids", "5,6", "--tokens", "2"}).exit_code == 0);
}
