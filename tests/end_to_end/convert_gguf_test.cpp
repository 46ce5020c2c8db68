// kvant convert, and the other commands on what it wrote: what is printed, exit codes, nothing
// left.

#include <fstream>
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

const std::string kLlama = std::string(KVANT_TEST_DATA) + "/families/llama_rope3";
const std::string kPrompt = "1,7,42,9";

std::string output(const std::vector<std::string>& words) {
  const ProcessResult result = kvant_program(words);
  INFO(result.err);
  CHECK(result.exit_code == 0);
  return result.out;
}

}  // namespace

TEST_CASE("kvant convert: to GGUF and back, and the other commands on it") {
  const TempFolder folder;
  const std::string file = (folder.path() / "m.gguf").string();
  const std::string small = (folder.path() / "small.gguf").string();
  const std::string back = (folder.path() / "back").string();
  CHECK(output({"convert", kLlama, file, "--type", "f32"}).find("llama: ") == 0);
  CHECK(output({"convert", file, small, "--type", "q4_0", "--quiet"}).empty());
  CHECK_FALSE(output({"convert", file, back}).empty());
  const std::string ids = output({"run", kLlama, "--ids", kPrompt, "--tokens", "8"});
  CHECK(output({"run", file, "--ids", kPrompt, "--tokens", "8"}) == ids);
  CHECK(output({"run", back, "--ids", kPrompt, "--tokens", "8"}) == ids);
  CHECK_NOTHROW(output({"run", small, "--ids", kPrompt, "--tokens", "8", "--kv", "int8"}));

  const json contents = json::parse(output({"inspect", small, "--json"}));
  CHECK(contents.at("architecture") == "llama");
  CHECK(contents.at("types").contains("Q4_0"));
  CHECK(json::parse(output({"verify", small, "--json"})).at("valid") == true);
  const json report = json::parse(output({"report", file, small, "--json", "--quiet"}));
  CHECK(report.at("layers").size() == 16);  // 7 in each block, embeddings and head
  const ProcessResult bad =
      kvant_program({"verify", std::string(KVANT_TEST_DATA) + "/gguf/bad/n_dims_5.gguf"});
  CHECK(bad.exit_code == 1);
  CHECK(bad.out.find("error [structure]") == 0);
}

TEST_CASE("kvant convert: wrong words are 2, what cannot be is 1, and nothing is left") {
  const TempFolder folder;
  const std::string file = (folder.path() / "m.gguf").string();
  const auto says = [](const std::string& message, const char* what) {
    INFO(message);
    CHECK(message.find(what) != std::string::npos);
  };
  says(kvant_failure({"convert", kLlama, file, "--type", "q9"}, 2), "q8_0");
  says(kvant_failure({"convert", kLlama, file, "--dtype", "fp16"}, 2), "--type");
  says(kvant_failure({"convert", file, (folder.path() / "x").string(), "--type", "q8_0"}, 2),
       "--dtype");
  says(kvant_failure({"convert", kLlama, (folder.path() / "x").string()}, 2), ".gguf");
  says(kvant_failure({"convert", kLlama}, 2), "OUT");
  says(kvant_failure({"convert", std::string(KVANT_TEST_DATA) + "/families/opt", file}, 1), "opt");
  says(kvant_failure({"convert", (folder.path() / "none").string(), file}, 1), "none");
  says(kvant_failure({"convert", kLlama, (folder.path() / "no/such/m.gguf").string()}, 1),
       "m.gguf");
  CHECK(std::filesystem::is_empty(folder.path()));
  const std::string other = (folder.path() / "note.gguf").string();
  std::ofstream(other) << "not a model";
  says(kvant_failure({"convert", kLlama, other, "--force"}, 1), "is no GGUF file");
  CHECK(kvant::test::read_text(other) == "not a model");
  CHECK(kvant_program({"convert", kLlama, file, "--quiet"}).exit_code == 0);
  says(kvant_failure({"convert", kLlama, file, "--quiet"}, 1), "--force");
  CHECK(kvant_program({"convert", kLlama, file, "--quiet", "--force"}).exit_code == 0);
}
