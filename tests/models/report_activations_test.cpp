// report_activations: every family, folders and GGUF files; statistics that lack something or are
// of another model.

#include "kvant/models/report_activations.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using kvant::Context;
using kvant::ErrorCode;
using kvant::look::ActivationInput;
using kvant::look::ActivationReport;
using kvant::models::CalibrateOptions;
using kvant::models::Config;
using kvant::models::ModelFiles;
using kvant::models::report_activations;
using kvant::models::ReportActivationsOptions;
using kvant::models::StatisticsFile;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::kData;
using kvant::test::message_of;
using kvant::test::TempFolder;

Config config_of_model(const fs::path& model) {
  return fs::is_directory(model) ? kvant::models::load_config(model / "config.json")
                                 : ModelFiles(model.string()).config();
}

/// Statistics over 40 random ids.
StatisticsFile statistics_of(Context& context, const fs::path& model, const fs::path& out,
                             const CalibrateOptions& options = {.threshold = 1.5f}) {
  const Config config = config_of_model(model);
  std::mt19937 random(5);
  std::vector<std::vector<TokenId>> windows(2, std::vector<TokenId>(20));
  for (auto& window : windows) {
    for (TokenId& id : window) {
      id = static_cast<TokenId>(random() % static_cast<std::uint64_t>(config.vocab_size));
    }
  }
  fs::remove(out);
  kvant::models::calibrate_model(context, model, config, windows, out, options);
  return StatisticsFile(out);
}

ActivationReport report_of(Context& context, const fs::path& model,
                           const StatisticsFile& statistics,
                           const ReportActivationsOptions& options = {.group = 32}) {
  return report_activations(context, model, config_of_model(model), statistics, options);
}

/// The same file without some tensors, with others of nonsense, and with other metadata.
void copy_statistics(const fs::path& from, const fs::path& to, const std::string& without,
                     const std::string& key, const std::string& value,
                     const std::string& nonsense = {}, std::byte byte = {}) {
  const kvant::io::SafeTensors file(from);
  kvant::io::SafeTensorsWriter writer;
  std::vector<std::vector<std::byte>> kept;
  for (const auto& info : file.tensors()) {
    if (!without.empty() && info.name.ends_with(without)) continue;
    const auto data = file.tensor(info.name).data;
    kept.emplace_back(data.begin(), data.end());
    if (!nonsense.empty() && info.name.ends_with(nonsense)) {
      std::fill(kept.back().begin(), kept.back().end(), byte);
    }
    writer.add(info.name, info.dtype, info.shape, kept.back());
  }
  for (const auto& [name, text] : file.metadata()) {
    writer.set_metadata(name, name == key ? value : text);
  }
  writer.write(to);
}

}  // namespace

TEST_CASE("report of activations: every family; the figures are those of the statistics") {
  Context context;
  const TempFolder temp;
  std::size_t families = 0;
  for (const char* kind : {"families", "encoders"}) {
    for (const auto& entry : fs::directory_iterator(kData / kind)) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      CAPTURE(entry.path().filename().string());
      ++families;
      const StatisticsFile statistics =
          statistics_of(context, entry.path(), temp.path() / "s.safetensors");
      const ActivationReport report = report_of(context, entry.path(), statistics);
      std::size_t layers = 0;
      for (const ActivationInput& input : report.inputs) {
        CAPTURE(input.layers.front());
        layers += input.layers.size();
        const auto seen = statistics.statistics(input.layers.front());
        CHECK(input.tokens == seen.rows);
        if (seen.rows == 0) {  // an expert that no token chose
          CHECK(!input.note.empty());
          continue;
        }
        CHECK(input.median <= input.p99);
        CHECK(input.p99 <= input.p999);
        CHECK(input.p9999 <= input.largest);
        CHECK(input.outlier_features == static_cast<int>(seen.outlier_features().size()));
        std::int64_t elements = input.zeros;
        for (const auto& bin : input.histogram) elements += bin.count;
        CHECK(elements == seen.rows * seen.features());
        CHECK((input.histogram.empty() || input.largest < input.histogram.back().largest));
        if (input.largest == 0) continue;
        CHECK(input.int8[0].sqnr_db > 10);
        CHECK(input.int4[0].sqnr_db > 3);
        CHECK(input.int4[0].sqnr_db < input.int8[0].sqnr_db);
        CHECK(input.int4[2].sqnr_db > input.int4[0].sqnr_db - 0.5);
      }
      CHECK(layers == statistics.inputs().size());
    }
  }
  CHECK(families > 15);
}

TEST_CASE("report of activations: a GGUF file says what its folder says") {
  Context context;
  const TempFolder temp;
  const fs::path folder = kData / "families/llama_bias";
  const fs::path gguf = temp.path() / "model.gguf";
  kvant::models::convert_to_gguf(context, folder, gguf, {.type = "f32", .tokenizer = false});
  const auto first = report_of(context, folder, statistics_of(context, folder, temp.path() / "a"));
  const auto second = report_of(context, gguf, statistics_of(context, gguf, temp.path() / "b"));
  REQUIRE(first.inputs.size() == second.inputs.size());
  for (std::size_t i = 0; i < first.inputs.size(); ++i) {
    CHECK(first.inputs[i].features == second.inputs[i].features);
    CHECK(first.inputs[i].largest == Approx(second.inputs[i].largest).epsilon(1e-4));
    CHECK(first.inputs[i].int4[0].sqnr_db == Approx(second.inputs[i].int4[0].sqnr_db).margin(0.1));
  }
}

TEST_CASE(
    "report of activations: without moments, layers without statistics, damage, other models") {
  Context context;
  const TempFolder temp;
  const fs::path model = kData / "families/llama_bias";
  const fs::path whole = temp.path() / "whole.safetensors";
  const fs::path part = temp.path() / "part.safetensors";
  const ActivationReport all = report_of(context, model, statistics_of(context, model, whole));

  CHECK_THAT(all.warnings.back(), Contains("40 tokens for inputs of up to"));

  copy_statistics(whole, part, ".moments", "", "");
  const ActivationReport blind = report_of(context, model, StatisticsFile(part));
  CHECK(std::isnan(blind.inputs[0].int4[2].sqnr_db));
  CHECK(!std::isnan(blind.inputs[0].int4[0].sqnr_db));
  CHECK(std::any_of(blind.warnings.begin(), blind.warnings.end(), [](const std::string& text) {
    return text.find("no second moments") != std::string::npos;
  }));

  // A layer that the list of inputs lacks is a row without figures.
  const std::string name = all.inputs[1].layers.front();
  copy_statistics(whole, part, "", "inputs", "{\"" + name + "\": \"" + name + "\"}");
  const ActivationReport lacking = report_of(context, model, StatisticsFile(part));
  CHECK(lacking.inputs[0].note == "the statistics do not have it");
  CHECK(lacking.inputs[0].tokens == 0);
  CHECK(std::any_of(lacking.inputs.begin(), lacking.inputs.end(), [&](const auto& input) {
    return input.layers.front() == name && input.tokens > 0;
  }));
  CHECK_THAT(lacking.warnings.front(), Contains("lack"));
  CHECK(!to_text(lacking).empty());
  CHECK(!to_html(lacking).empty());

  copy_statistics(whole, part, name + ".max", "", "");
  CHECK(code_of([&] { static_cast<void>(report_of(context, model, StatisticsFile(part))); }) ==
        ErrorCode::invalid_file);
  for (const std::byte byte : {std::byte{0x7F}, std::byte{0xFF}}) {  // largest values; -1, NaN
    for (const std::string tensor :
         {".histogram", ".rows", ".outliers", ".sum_abs", ".min", ".moments"}) {
      if (tensor == ".moments" && byte == std::byte{0x7F}) continue;
      CAPTURE(tensor);
      copy_statistics(whole, part, "", "", "", name + tensor, byte);
      CHECK(code_of([&] { static_cast<void>(report_of(context, model, StatisticsFile(part))); }) ==
            ErrorCode::invalid_file);
    }
  }
  copy_statistics(whole, part, "", "model", "17");
  const StatisticsFile others(part);
  CHECK_THAT(message_of([&] { static_cast<void>(report_of(context, model, others)); },
                        ErrorCode::invalid_file),
             Contains("its weights are different"));
  const fs::path other = kData / "families/gpt2_inverse_layer";
  CHECK_THAT(
      message_of([&] { static_cast<void>(report_of(context, other, StatisticsFile(whole))); },
                 ErrorCode::invalid_file),
      Contains("of type llama"));
}

TEST_CASE("report of activations: progress, and a stop between two inputs") {
  Context context;
  const TempFolder temp;
  const fs::path model = kData / "families/llama_bias";
  const StatisticsFile statistics = statistics_of(context, model, temp.path() / "s");
  std::atomic<bool> stop = false;
  std::int64_t calls = 0;
  ReportActivationsOptions options{.group = 32};
  options.cancel = &stop;
  options.progress = [&](std::int64_t done, std::int64_t total, const std::string& layer) {
    CHECK(done == calls);
    CHECK(total > 3);
    CHECK(!layer.empty());
    if (++calls == 2) stop = true;
  };
  CHECK(code_of([&] { static_cast<void>(report_of(context, model, statistics, options)); }) ==
        ErrorCode::cancelled);
  CHECK(calls == 2);
  CHECK(code_of([&] { static_cast<void>(report_of(context, model, statistics, {.group = -1})); }) ==
        ErrorCode::invalid_argument);
}

TEST_CASE("report of activations: NaN in what a layer reads is an error that names the layer") {
  Context context;
  const TempFolder temp;
  const fs::path model = temp.path() / "model";
  fs::copy(kData / "families/llama_bias", model);
  // The norm before the second block's attention makes NaN of everything.
  const kvant::io::SafeTensors file(kData / "families/llama_bias/model.safetensors");
  const std::string norm = "model.layers.1.input_layernorm.weight";
  REQUIRE(file.contains(norm));
  kvant::io::SafeTensorsWriter writer;
  std::vector<std::vector<std::byte>> kept;
  for (const auto& info : file.tensors()) {
    const auto data = file.tensor(info.name).data;
    kept.emplace_back(data.begin(), data.end());
    if (info.name == norm) std::fill(kept.back().begin(), kept.back().end(), std::byte{0xFF});
    writer.add(info.name, info.dtype, info.shape, kept.back());
  }
  fs::remove(model / "model.safetensors");
  writer.write(model / "model.safetensors");
  CHECK_THAT(
      message_of([&] { statistics_of(context, model, temp.path() / "s"); }, ErrorCode::not_finite),
      Contains("model.layers.1.self_attn.q_proj") && Contains("NaN"));
  CHECK(!fs::exists(temp.path() / "s"));
}
