// kvant calibrate and the methods of kvant quantize, on a real small model: what they print, what
// the quantized models are worth, and exit codes.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "models/deep_model.hpp"
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
void write_library_text(const fs::path& file) {
  std::ofstream out(file);
  for (const char* name : {"gemm", "epilogue", "quantize_rows", "elementwise", "saturation"}) {
    out << std::ifstream(std::string(KVANT_SOURCE_DIR) + "/src/cpu/micro/" + name + ".hpp").rdbuf();
  }
}

double perplexity_of(const std::string& model, const fs::path& report) {
  const ProcessResult result = kvant_program({"run", model, "--perplexity", kTinyText,
                                              "--arithmetic", "exact", "--json", report.string()});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return nlohmann::json::parse(std::ifstream(report))["perplexity"];
}

}  // namespace

TEST_CASE("kvant calibrate, quantize --scheme gptq: nearer to floats than rounding to nearest") {
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  const std::string model = kTinyModel;
  write_library_text(path("text"));
  const ProcessResult made =
      kvant_program({"calibrate", model, path("text"), "--out", path("stats.safetensors"),
                     "--windows", "32", "--window", "256"});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK_THAT(made.out, Contains("16 inputs of 16 layers over 8192 tokens"));
  CHECK(!fs::exists(path("stats.safetensors.partial")));
  CHECK_THAT(
      kvant_failure({"calibrate", model, path("text"), "--out", path("stats.safetensors")}, 1),
      Contains("--force"));

  const auto quantize = [&](const char* out, std::vector<std::string> words) {
    words.insert(words.begin(), {"quantize", model, path(out)});
    const ProcessResult result = kvant_program(words);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return result.out;
  };
  const std::string stats = path("stats.safetensors");
  quantize("rtn", {"--scheme", "int4", "--method", "rtn"});
  CHECK_THAT(quantize("gptq", {"--scheme", "gptq", "--act-order", "--calibrate", stats}),
             Contains("rounding to nearest:"));
  quantize("awq", {"--scheme", "awq", "--calibrate", stats});
  const double exact = 6.827;
  const double nearest = perplexity_of(path("rtn"), path("json"));
  const double gptq = perplexity_of(path("gptq"), path("json"));
  const double awq = perplexity_of(path("awq"), path("json"));
  CAPTURE(nearest, gptq, awq);
  CHECK(gptq - exact < 0.7 * (nearest - exact));
  CHECK(awq < nearest);
  CHECK(kvant_program({"verify", path("gptq")}).exit_code == 0);
  CHECK(kvant_program({"verify", path("awq")}).exit_code == 0);

  // Statistics on the way: the same folder.
  quantize("direct", {"--scheme", "gptq", "--act-order", "--calibrate", path("text"), "--windows",
                      "32", "--window", "256"});
  const auto bytes = [](const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
  };
  CHECK(bytes(path("direct") + "/model.safetensors") == bytes(path("gptq") + "/model.safetensors"));
  CHECK(!fs::exists(path("direct.calibration.safetensors")));

  // What cannot be.
  CHECK_THAT(kvant_failure({"quantize", model, path("no"), "--scheme", "gptq"}, 2),
             Contains("--calibrate"));
  CHECK_THAT(kvant_failure({"quantize", model, path("no"), "--scheme", "nf4", "--bits", "3"}, 2),
             Contains("--bits"));
  CHECK_THAT(
      kvant_failure({"quantize", model, path("no"), "--scheme", "nf4", "--method", "hqq"}, 2),
      Contains("int4"));
  CHECK_THAT(
      kvant_failure({"quantize", std::string(KVANT_TEST_DATA) + "/families/llama_bias", path("no"),
                     "--scheme", "gptq", "--calibrate", stats, "--skip", "*.mlp.*"},
                    1),
      Contains("type gpt_bigcode"));
  CHECK_THAT(kvant_failure({"quantize", model, path("no"), "--scheme", "awq", "--act-order",
                            "--calibrate", stats},
                           2),
             Contains("--act-order is for gptq"));
  CHECK_THAT(
      kvant_failure(
          {"quantize", model, path("rtn"), "--scheme", "gptq", "--calibrate", path("text")}, 1),
      Contains("exists already"));
  CHECK_THAT(kvant_failure(
                 {"quantize", model, path("no"), "--scheme", "llm-int8", "--calibrate", stats}, 1),
             Contains("is no text"));
  std::ofstream(path("short")) << "x";
  CHECK_THAT(kvant_failure({"calibrate", model, path("short"), "--out", path("s")}, 1),
             Contains("tokens for this model"));
  CHECK(!fs::exists(path("no")));
  CHECK(!fs::exists(path("s")));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("kvant calibrate: memory for a block in float, its moments and 64 MiB") {
  const TempFolder folder;
  const fs::path model = folder.path() / "model";
  fs::create_directory(model);
  const std::size_t block = kvant::test::write_deep_model(model, 12, 1024, 128);
  for (const char* const file : {"tokenizer.json", "tokenizer_config.json"}) {
    fs::copy_file(fs::path(kTinyModel) / file, model / file);
  }
  write_library_text(folder.path() / "text");
  const ProcessResult result = kvant_program(
      {"calibrate", model.string(), (folder.path() / "text").string(), "--out",
       (folder.path() / "stats.safetensors").string(), "--windows", "4", "--window", "128"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  // Floats for each pair of features of the four inputs of a block.
  const std::size_t moments = sizeof(float) * (3 * 512 * 512 + 2048 * 2048);
  const std::size_t limit = block + moments + (64u << 20);
  INFO("peak " << result.peak_bytes << ", block " << block << ", moments " << moments);
  CHECK(result.peak_bytes < limit);
  // Which neither the model nor what was written would fit in.
  CHECK(fs::file_size(model / "model.safetensors") > limit);
  CHECK(fs::file_size(folder.path() / "stats.safetensors") > limit);
}
#endif
