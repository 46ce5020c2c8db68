// Calibration: what layers read, in any family; attempts that were stopped; and the methods that
// quantize by it.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/look/verify.hpp"
#include "kvant/models/calibration.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/quantize_methods.hpp"
#include "kvant/models/statistics.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"
#include "support/thread_ranks.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::Context;
using kvant::ErrorCode;
using kvant::models::CalibrateOptions;
using kvant::models::Config;
using kvant::models::Method;
using kvant::models::MethodOptions;
using kvant::models::StatisticsFile;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::config_in;
using kvant::test::kData;
using kvant::test::message_of;
using kvant::test::prompt_logits;
using kvant::test::TempFolder;
using Windows = std::vector<std::vector<TokenId>>;

Windows windows_for(const Config& config, std::size_t count, std::size_t length) {
  std::mt19937 random(5);
  Windows windows(count, std::vector<TokenId>(length));
  for (auto& window : windows) {
    for (TokenId& id : window) {
      id = static_cast<TokenId>(random() % static_cast<std::uint64_t>(config.vocab_size));
    }
  }
  windows.back().resize(length / 2);
  return windows;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Statistics of a model over some random windows.
StatisticsFile calibrated(Context& context, const fs::path& model, const fs::path& out,
                          const CalibrateOptions& options = {}) {
  const Config config = config_in(model);
  kvant::models::calibrate_model(context, model, config, windows_for(config, 4, 24), out, options);
  return StatisticsFile(out);
}

}  // namespace

TEST_CASE("calibrate: the same outlier columns as a run in memory, for every kind of model") {
  Context context;
  const TempFolder temp;
  for (const char* name :
       {"families/llama_bias", "families/falcon_new", "families/gpt2_inverse_layer", "encoders/t5",
        "encoders/bert_masked", "families/mixtral"}) {
    const fs::path model = kData / name;
    if (!fs::exists(model)) continue;
    CAPTURE(name);
    const Config config = config_in(model);
    const Windows windows = windows_for(config, 1, 20);
    const float threshold = 1.5f;  // random models have no features of 6
    kvant::models::calibrate_model(context, model, config, windows, temp.path() / "s.safetensors",
                                   {.threshold = threshold});
    const StatisticsFile statistics(temp.path() / "s.safetensors");
    CHECK(statistics.model_type() == config.model_type);
    const auto columns =
        kvant::models::find_outlier_columns(context, model, config, windows[0], threshold);
    for (const auto& [layer, expected] : columns) {
      CAPTURE(layer);
      REQUIRE(statistics.contains(layer));
      const auto seen = statistics.statistics(layer);
      if (seen.rows == 0) continue;  // an expert that no token chose
      // Sums differ in their last bits; what is that near to the threshold may be either.
      for (std::int64_t c = 0; c < seen.features(); ++c) {
        if (std::fabs(seen.absmax(c) - threshold) < 1e-4f) continue;
        const bool is_outlier = std::find(expected.begin(), expected.end(), c) != expected.end();
        CHECK(is_outlier == (seen.outliers[static_cast<std::size_t>(c)] > 0));
      }
      const auto gram = statistics.moments(layer);
      CHECK(gram.features() == seen.features());
      CHECK(gram.rows() == seen.rows);
    }
    fs::remove(temp.path() / "s.safetensors");
  }
}

TEST_CASE("calibrate: an attempt that was stopped goes on where it was, to the same bytes") {
  Context context;
  const TempFolder temp;
  for (const char* name : {"families/llama_bias", "encoders/t5"}) {
    const fs::path model = kData / name;
    const Config config = config_in(model);
    const Windows windows = windows_for(config, 3, 16);
    const fs::path whole = temp.path() / "whole.safetensors";
    const fs::path out = temp.path() / "out.safetensors";
    CalibrateOptions options;
    std::int64_t total = 0;
    options.progress = [&](std::int64_t, std::int64_t of, const std::string&) { total = of; };
    kvant::models::calibrate_model(context, model, config, windows, whole, options);
    for (std::int64_t stop = 1; stop + 1 < total; stop += 2) {
      CAPTURE(name, stop);
      std::atomic<bool> cancel = false;
      CalibrateOptions interrupted;
      interrupted.cancel = &cancel;
      interrupted.progress = [&](std::int64_t done, std::int64_t, const std::string&) {
        cancel = done >= stop;
      };
      CHECK(code_of([&] {
              kvant::models::calibrate_model(context, model, config, windows, out, interrupted);
            }) == ErrorCode::cancelled);
      CHECK(!fs::exists(out));
      const auto summary = kvant::models::calibrate_model(context, model, config, windows, out, {});
      CHECK(summary.resumed_blocks == (stop + 1) / 3);
      CHECK(bytes_of(out) == bytes_of(whole));
      CHECK(!fs::exists(out.string() + ".partial"));
      fs::remove(out);
    }
    // Other windows begin anew.
    std::atomic<bool> cancel = false;
    CalibrateOptions interrupted;
    interrupted.cancel = &cancel;
    interrupted.progress = [&](std::int64_t done, std::int64_t, const std::string&) {
      cancel = done > 3;
    };
    CHECK(code_of([&] {
            kvant::models::calibrate_model(context, model, config, windows, out, interrupted);
          }) == ErrorCode::cancelled);
    const Windows others = windows_for(config, 2, 16);
    CHECK(kvant::models::calibrate_model(context, model, config, others, out, {}).resumed_blocks ==
          0);
    fs::remove(out);
  }
}

TEST_CASE("calibrate: by ranks, the bytes of one process") {
  const TempFolder temp;
  for (const char* name : {"architectures/llama/float", "encoders/t5", "families/mixtral"}) {
    const fs::path model = kData / name;
    const Config config = config_in(model);
    const Windows windows = windows_for(config, 4, 24);
    const fs::path whole = temp.path() / "whole.safetensors";
    const fs::path out = temp.path() / "out.safetensors";
    Context context;
    kvant::models::calibrate_model(context, model, config, windows, whole);
    for (const int count : {2, 3}) {
      CAPTURE(name, count);
      kvant::test::run_ranks(count, [&](kvant::Ranks& ranks) {
        Context own({.threads = 1});
        kvant::models::calibrate_model(own, model, config, windows, out, {.ranks = &ranks});
      });
      CHECK(bytes_of(out) == bytes_of(whole));
      CHECK(!fs::exists(out.string() + ".partial.1"));
      fs::remove(out);
    }
    fs::remove(whole);
  }
}

TEST_CASE("calibrate: mistakes have names, and leave what was there") {
  Context context;
  const TempFolder temp;
  const fs::path model = kData / "families/llama_bias";
  const Config config = config_in(model);
  const fs::path out = temp.path() / "s.safetensors";
  CHECK(code_of([&] { kvant::models::calibrate_model(context, model, config, {}, out); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([&] {
          kvant::models::calibrate_model(context, model, config, {{1, 2}, {}}, out);
        }) == ErrorCode::invalid_argument);
  fs::create_directories(out.string() + ".partial");
  std::ofstream(out.string() + ".partial/mine.txt") << "mine";
  CHECK(code_of([&] {
          kvant::models::calibrate_model(context, model, config, {{1, 2}}, out);
        }) == ErrorCode::io);
  CHECK(fs::exists(out.string() + ".partial/mine.txt"));
  CHECK(code_of([&] { StatisticsFile(model / "model.safetensors"); }) == ErrorCode::invalid_file);
}

TEST_CASE("methods: factors folded into norms and layers leave the model's floats as they were") {
  Context context;
  const TempFolder temp;
  int folders = 0;
  for (const auto& entry : fs::directory_iterator(kData / "families")) {
    const fs::path model = entry.path();
    if (!fs::exists(model / "config.json")) continue;
    const Config config = config_in(model);
    const auto layers = kvant::io::find_linear_layers(kvant::io::Checkpoint(model),
                                                      kvant::io::model_hints_of(model));
    if (std::any_of(layers.begin(), layers.end(), [](const auto& l) { return l.quantized(); })) {
      continue;
    }
    CAPTURE(model.filename().string());
    ++folders;
    const StatisticsFile statistics =
        calibrated(context, model, temp.path() / "s.safetensors", {.moments = false});
    kvant::io::QuantizeCheckpointOptions keep;
    keep.rules = {{"*", kvant::io::WeightScheme::keep}};
    quantize_by_method(context, model, temp.path() / "out", {.method = Method::smoothquant},
                       &statistics, keep);
    const auto before = prompt_logits(context, model, "fp32");
    const auto after = prompt_logits(context, temp.path() / "out", "fp32");
    // Norms stored in 16 bits round their factors.
    CHECK(kvant::test::relative_error(after, before) <
          (layers[0].dtype == kvant::DType::float32 ? 1e-5 : 3e-2));
    fs::remove_all(temp.path() / "out");
    fs::remove(temp.path() / "s.safetensors");
  }
  CHECK(folders >= 10);
}

TEST_CASE("methods: less error than rounding to nearest, in folders that run") {
  Context context;
  const TempFolder temp;
  for (const char* name : {"architectures/llama/float", "families/gpt2_inverse_layer"}) {
    const fs::path model = kData / name;
    const StatisticsFile statistics = calibrated(context, model, temp.path() / "s.safetensors");
    const auto exact = prompt_logits(context, model, "fp32");
    const fs::path out = temp.path() / "out";
    const auto check = [&](const MethodOptions& options, bool better) {
      CAPTURE(name, to_string(options.method), options.bits, options.act_order,
              options.static_groups);
      kvant::io::QuantizeCheckpointOptions which;
      // Inputs and outputs of these MLPs do not fill words of codes.
      which.rules = {{"*.mlp.*", kvant::io::WeightScheme::keep}};
      const auto result = quantize_by_method(context, model, out, options, &statistics, which);
      CHECK(!result.layers.empty());
      for (const auto& layer : result.layers) {
        if (better) CHECK(layer.error < layer.error_nearest);
      }
      const auto verdict = kvant::look::verify_checkpoint(out);
      INFO(to_text(verdict));
      CHECK(verdict.ok());
      const auto logits = prompt_logits(context, out, "");
      CHECK(kvant::test::relative_error(logits, exact) < (options.bits > 3 ? 0.9 : 3.0));
      fs::remove_all(out);
    };
    for (const int bits : {2, 3, 4, 8}) check({.bits = bits, .group = 32}, bits < 8);
    check({.group = 32, .symmetric = true}, true);
    check({.group = 32, .act_order = true}, true);
    check({.group = 32, .act_order = true, .static_groups = false}, true);
    check({.method = Method::awq, .group = 32}, true);
    check({.method = Method::mse, .group = 32}, false);
    check({.method = Method::hqq, .group = 32}, false);
    check({.method = Method::awq, .group = -1}, false);
    check({.method = Method::gptq, .group = -1, .act_order = true, .static_groups = false}, true);
    check({.method = Method::rtn, .group = 32}, false);
    fs::remove(temp.path() / "s.safetensors");
  }
}

TEST_CASE("methods: what is missing, or of another model, is said before anything is written") {
  Context context;
  const TempFolder temp;
  const fs::path model = kData / "families/llama_bias";
  const fs::path out = temp.path() / "out";
  const auto message = [&](const MethodOptions& options, const StatisticsFile* statistics,
                           const fs::path& from, ErrorCode code = ErrorCode::invalid_argument) {
    return message_of([&] { quantize_by_method(context, from, out, options, statistics, {}); },
                      code);
  };
  CHECK(message({}, nullptr, model).find("kvant calibrate") != std::string::npos);
  const StatisticsFile plain =
      calibrated(context, model, temp.path() / "s.safetensors", {.moments = false});
  CHECK(message({}, &plain, model).find("no second moments") != std::string::npos);
  CHECK(message({.method = Method::smoothquant}, &plain, kData / "families/gpt2_inverse_layer",
                ErrorCode::invalid_file)
            .find("of type llama") != std::string::npos);
  CHECK(message({.method = Method::smoothquant}, &plain, kData / "architectures/llama/float",
                ErrorCode::invalid_file)
            .find("another model") != std::string::npos);
  CHECK(message({.method = Method::smoothquant, .alpha = 2}, &plain, model).find("alpha is 2") !=
        std::string::npos);
  CHECK(message({.method = Method::awq, .bits = 3}, &plain, model).find("AWQ's form has 4") !=
        std::string::npos);
  CHECK(message({.method = Method::rtn, .group = 48}, nullptr, model).find("multiples of 32") !=
        std::string::npos);
  CHECK(!fs::exists(out));
}
