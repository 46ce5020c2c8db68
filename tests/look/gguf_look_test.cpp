// inspect, verify and report of GGUF files.

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/gguf_writer.hpp"
#include "kvant/look/gguf.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::find_gguf_type;
using kvant::io::GgufWriter;
using kvant::test::code_of;
using nlohmann::json;
using Path = std::filesystem::path;

const Path kFolder = Path(KVANT_TEST_DATA) / "gguf";

/// A matrix [4, 64] of a type, a vector, and what a model says of itself.
void write_model(const Path& path, const char* type, float peak = 1.0f) {
  std::vector<float> values(4 * 64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(0.37f * static_cast<float>(i));
  }
  GgufWriter writer(path);
  writer.set("general.architecture", "llama");
  writer.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c", "d"});
  writer.add_tensor("token_embd.weight", *find_gguf_type(type), {4, 64});
  writer.add_tensor("output_norm.weight", *find_gguf_type("f32"), {64});
  writer.begin();
  std::vector<std::byte> blocks(values.size() / find_gguf_type(type)->elements *
                                find_gguf_type(type)->bytes);
  quantize_gguf(*find_gguf_type(type), values.data(), 4, 64, blocks.data(), "t");
  writer.write("token_embd.weight", 0, blocks);
  values[3] = peak;
  writer.write("output_norm.weight", 0, std::as_bytes(std::span(values).first(64)));
  writer.commit();
}

}  // namespace

TEST_CASE("verify: malformed GGUF files get their verdicts, and a kind") {
  const json verdicts = json::parse(kvant::test::read_text(kFolder / "verdicts.json"));
  for (const json& verdict : verdicts.at("files")) {
    const Path path = kFolder / verdict.at("file").get<std::string>();
    INFO(path.string() << ": " << verdict.at("defect").get<std::string>());
    const kvant::look::VerifyResult result = kvant::look::verify_checkpoint(path);
    CHECK(result.ok() == (verdict.at("kvant") == "accept"));
    CHECK(json::parse(to_json(result)).at("valid") == result.ok());
    for (const kvant::io::Finding& finding : result.findings) CHECK_FALSE(finding.kind.empty());
  }
}

TEST_CASE("verify: values of GGUF files") {
  const kvant::test::TempFolder folder;
  const Path path = folder.path() / "m.gguf";
  write_model(path, "q8_0");
  const kvant::look::VerifyResult fine = kvant::look::verify_checkpoint(path);
  CHECK(fine.findings.empty());
  CHECK(fine.tensors == 2);
  CHECK(to_text(fine).find("valid, 0 errors") != std::string::npos);

  write_model(path, "q8_0", HUGE_VALF);  // a float that is infinite is odd, not broken
  const kvant::look::VerifyResult odd = kvant::look::verify_checkpoint(path);
  CHECK(odd.ok());
  REQUIRE(odd.findings.size() == 1);
  CHECK(odd.findings[0].kind == "not_finite");

  std::string bytes = kvant::test::read_text(path);  // the scale of a block becomes infinity
  const std::size_t at = bytes.size() - 256 - 288;   // behind 272 bytes padding
  bytes[at] = '\x00';
  bytes[at + 1] = '\x7C';
  std::ofstream(path, std::ios::binary) << bytes;
  const kvant::look::VerifyResult broken = kvant::look::verify_checkpoint(path);
  CHECK_FALSE(broken.ok());
  CHECK(broken.findings[0].kind == "scale");
  CHECK(broken.findings[0].message.find("32 values") != std::string::npos);
}

TEST_CASE("inspect: a GGUF file's metadata, tensors and types") {
  const kvant::test::TempFolder folder;
  const Path path = folder.path() / "m.gguf";
  write_model(path, "q4_0");
  const kvant::look::GgufContents contents = kvant::look::inspect_gguf(path);
  CHECK(contents.architecture == "llama");
  CHECK(contents.elements == 5 * 64);
  CHECK(contents.types.at("Q4_0").bytes == 8 * 18);
  const json read = json::parse(to_json(contents));
  CHECK(read.at("types").at("Q4_0").at("bits_per_weight") == 4.5);
  CHECK(read.at("tensors").size() == 2);
  CHECK(read.at("metadata").at("tokenizer.ggml.tokens") == "list of 4 texts");
  CHECK(to_text(contents).find("token_embd.weight") != std::string::npos);
  CHECK_NOTHROW(to_text(kvant::look::inspect_gguf(kFolder / "tiny.gguf")));
  CHECK(code_of([&] { (void)kvant::look::inspect_gguf(kFolder / "bad/dim_2_63.gguf"); }) ==
        ErrorCode::invalid_file);
}

TEST_CASE("report: two GGUF files, matrix by matrix") {
  const kvant::test::TempFolder folder;
  const Path exact = folder.path() / "f32.gguf";
  const Path eight = folder.path() / "q8.gguf";
  const Path four = folder.path() / "q4.gguf";
  write_model(exact, "f32");
  write_model(eight, "q8_0");
  write_model(four, "q4_0");
  const auto report = kvant::look::report_checkpoint(exact, eight);
  REQUIRE(report.layers.size() == 1);
  CHECK(report.layers[0].before.scheme() == "F32");
  CHECK(report.layers[0].after.scheme() == "Q8_0");
  CHECK(report.other_equal == 1);
  CHECK(report.total.sqnr_db > 40);
  CHECK(report.total.sqnr_db > kvant::look::report_checkpoint(exact, four).total.sqnr_db + 20);
  CHECK(json::parse(to_json(report)).at("layers").size() == 1);
  CHECK(to_svg(report).find("Q8_0") != std::string::npos);
  const Path folder_model = Path(KVANT_TEST_DATA) / "families/llama_linear";
  CHECK(code_of([&] { (void)kvant::look::report_checkpoint(folder_model, eight); }) ==
        ErrorCode::unsupported);
  CHECK(code_of([&] {
          (void)kvant::look::report_checkpoint(exact, kFolder / "models/llama_F16.gguf");
        }) != ErrorCode::ok);
}
