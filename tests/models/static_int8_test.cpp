// SmoothQuant as compressed-tensors has it: int8 weights, activations by one scale of the file or
// by row; what transformers computes with such a folder, and files that are wrong.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/look/verify.hpp"
#include "kvant/models/calibration.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/quantize_methods.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::Context;
using kvant::ErrorCode;
using kvant::models::Method;
using kvant::models::MethodOptions;
using kvant::models::StatisticsFile;
using kvant::models::TokenId;
using kvant::test::message_of;
using kvant::test::prompt_logits;

const fs::path kFloatLlama = kvant::test::kData / "architectures/llama/float";

StatisticsFile static_statistics(Context& context, const fs::path& out) {
  const auto config = kvant::models::load_config(kFloatLlama / "config.json");
  std::vector<std::vector<TokenId>> windows(3);
  for (int w = 0; w < 3; ++w) {
    for (int i = 0; i < 24; ++i) {
      windows[static_cast<std::size_t>(w)].push_back(
          static_cast<TokenId>((i * i * 7 + w * 31 + i * 3) % config.vocab_size));
    }
  }
  kvant::models::calibrate_model(context, kFloatLlama, config, windows, out, {.moments = false});
  return StatisticsFile(out);
}

/// input_activations.dynamic of a folder's config.json.
void say_dynamic(const fs::path& folder, const nlohmann::json& value) {
  std::ifstream in(folder / "config.json");
  auto config = nlohmann::json::parse(in);
  config["quantization_config"]["config_groups"]["group_0"]["input_activations"]["dynamic"] = value;
  std::ofstream(folder / "config.json") << config;
}

/// The first float of a tensor in a folder's only file becomes another.
void overwrite(const fs::path& folder, const std::string& tensor, float value) {
  const fs::path file = folder / "model.safetensors";
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  std::uint64_t size = 0;
  stream.read(reinterpret_cast<char*>(&size), 8);
  std::string header(size, ' ');
  stream.read(header.data(), static_cast<std::streamsize>(size));
  const auto offset = nlohmann::json::parse(header)[tensor]["data_offsets"][0].get<std::uint64_t>();
  stream.seekp(static_cast<std::streamoff>(8 + size + offset));
  stream.write(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

TEST_CASE("smoothquant in compressed-tensors' form: what transformers makes of it") {
  Context context;
  const kvant::test::TempFolder temp;
  const StatisticsFile statistics = static_statistics(context, temp.path() / "s.safetensors");
  const fs::path out = temp.path() / "static";
  MethodOptions options{
      .method = Method::smoothquant, .compressed_tensors = true, .static_activations = true};
  quantize_by_method(context, kFloatLlama, out, options, &statistics);
  const auto logits = prompt_logits(context, out, "stored");
  // By compressed-tensors 0.20 in transformers 5.24, of this folder: the first of the first token,
  // the last of the last.
  const std::vector<float> first = {0.225160f, -0.158699f, 0.106106f, -0.532523f, -0.048540f};
  const std::vector<float> last = {0.447413f, -0.107624f, 0.390185f, -0.827088f, 0.507047f};
  REQUIRE(logits.size() == 6 * 120);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(std::fabs(logits[i] - first[i]) < 2e-5f);
    CHECK(std::fabs(logits[logits.size() - 5 + i] - last[i]) < 2e-5f);
  }
  const auto exact = prompt_logits(context, kFloatLlama, "fp32");
  const double with_one_scale = kvant::test::relative_error(logits, exact);
  CHECK(with_one_scale < 0.1);

  options.static_activations = false;
  const fs::path by_row = temp.path() / "by_row";
  quantize_by_method(context, kFloatLlama, by_row, options, &statistics);
  CHECK(!kvant::io::Checkpoint(by_row).contains("model.layers.0.mlp.up_proj.input_scale"));
  CHECK(kvant::test::relative_error(prompt_logits(context, by_row, "stored"), exact) <
        with_one_scale);
}

TEST_CASE("static scales of activations: config.json says whether they hold") {
  Context context;
  const kvant::test::TempFolder temp;
  const StatisticsFile statistics = static_statistics(context, temp.path() / "s.safetensors");
  MethodOptions options{
      .method = Method::smoothquant, .compressed_tensors = true, .static_activations = true};
  const fs::path with_scales = temp.path() / "static";
  quantize_by_method(context, kFloatLlama, with_scales, options, &statistics);
  options.static_activations = false;
  const fs::path by_row = temp.path() / "by_row";
  quantize_by_method(context, kFloatLlama, by_row, options, &statistics);
  const auto fixed = prompt_logits(context, with_scales, "stored");
  const auto at_run = prompt_logits(context, by_row, "stored");
  CHECK(fixed != at_run);

  // The scales are there, and not meant.
  for (const nlohmann::json& dynamic : {nlohmann::json(true), nlohmann::json("local")}) {
    say_dynamic(with_scales, dynamic);
    CHECK(prompt_logits(context, with_scales, "stored") == at_run);
    CHECK(kvant::look::verify_checkpoint(with_scales).ok());
  }
  for (const nlohmann::json& odd : {nlohmann::json(0), nlohmann::json("false")}) {
    say_dynamic(with_scales, odd);
    CHECK(
        message_of([&] { prompt_logits(context, with_scales, "stored"); }, ErrorCode::invalid_file)
            .find("dynamic false") != std::string::npos);
    CHECK(!kvant::look::verify_checkpoint(with_scales).ok());
  }
  say_dynamic(with_scales, false);
  CHECK(prompt_logits(context, with_scales, "stored") == fixed);
  CHECK(kvant::look::verify_checkpoint(with_scales).ok());

  // Groups that differ: which of them means a layer is not asked. And other codes than int8.
  const auto read = [](const fs::path& folder) {
    std::ifstream in(folder / "config.json");
    return nlohmann::json::parse(in);
  };
  const nlohmann::json config = read(with_scales);
  nlohmann::json other = config;
  auto& groups = other["quantization_config"]["config_groups"];
  groups["group_1"] = groups["group_0"];
  groups["group_0"]["targets"] = {"re:.*mlp.*"};
  groups["group_1"]["targets"] = {"re:.*self_attn.*"};
  groups["group_1"]["input_activations"]["dynamic"] = true;
  std::ofstream(with_scales / "config.json") << other;
  CHECK(message_of([&] { prompt_logits(context, with_scales, "stored"); }, ErrorCode::invalid_file)
            .find("differ in input_activations") != std::string::npos);
  CHECK(!kvant::look::verify_checkpoint(with_scales).ok());
  other = config;
  other["quantization_config"]["config_groups"]["group_0"]["input_activations"]["num_bits"] = 4;
  std::ofstream(with_scales / "config.json") << other;
  CHECK(message_of([&] { prompt_logits(context, with_scales, "stored"); }, ErrorCode::invalid_file)
            .find("num_bits 8") != std::string::npos);

  // They are meant, and not there.
  say_dynamic(by_row, false);
  const std::string message =
      message_of([&] { prompt_logits(context, by_row, "stored"); }, ErrorCode::invalid_file);
  CHECK(message.find("dynamic false") != std::string::npos);
  CHECK(message.find("model.layers.0.self_attn.q_proj.input_scale") != std::string::npos);
  const auto verified = kvant::look::verify_checkpoint(by_row);
  CHECK(std::count_if(verified.findings.begin(), verified.findings.end(), [](const auto& finding) {
          return finding.message.find("q_proj.input_scale") != std::string::npos;
        }) == 2);  // of two blocks
}

TEST_CASE("static scales of activations in a file: numbers that cannot be are errors") {
  Context context;
  const kvant::test::TempFolder temp;
  const StatisticsFile statistics = static_statistics(context, temp.path() / "s.safetensors");
  const fs::path out = temp.path() / "out";
  const MethodOptions options{
      .method = Method::smoothquant, .compressed_tensors = true, .static_activations = true};
  quantize_by_method(context, kFloatLlama, out, options, &statistics);
  const std::string scale = "model.layers.1.self_attn.q_proj.input_scale";
  for (const float value : {0.0f, -1.0f, std::nanf(""), INFINITY}) {
    overwrite(out, scale, value);
    const std::string message =
        message_of([&] { prompt_logits(context, out, "stored"); }, ErrorCode::invalid_file);
    CHECK(message.find(scale) != std::string::npos);
    CHECK(message.find("not a number above 0") != std::string::npos);
    const auto verified = kvant::look::verify_checkpoint(out);
    CHECK(std::count_if(verified.findings.begin(), verified.findings.end(),
                        [&](const kvant::io::Finding& finding) {
                          return finding.severity == kvant::io::Severity::error &&
                                 finding.message.find(scale) != std::string::npos;
                        }) == 1);
  }
  MethodOptions other = options;
  other.compressed_tensors = false;
  CHECK(
      message_of(
          [&] { quantize_by_method(context, kFloatLlama, temp.path() / "no", other, &statistics); },
          ErrorCode::invalid_argument)
          .find("in the form of compressed-tensors") != std::string::npos);
  kvant::io::QuantizeCheckpointOptions direct;
  direct.quant_method = "compressed-tensors";
  CHECK(message_of([&] { quantize_checkpoint(kFloatLlama, temp.path() / "no", direct); },
                   ErrorCode::invalid_argument)
            .find("choose int8 instead of llm-int8") != std::string::npos);
  direct.scheme = kvant::io::WeightScheme::int8;
  direct.input_scales = {{"model.layers.0.mlp.up_proj", 0.1f}};
  CHECK(message_of([&] { quantize_checkpoint(kFloatLlama, temp.path() / "no", direct); },
                   ErrorCode::invalid_argument)
            .find("has no static scale of its activations") != std::string::npos);
  CHECK(!fs::exists(temp.path() / "no"));
}
