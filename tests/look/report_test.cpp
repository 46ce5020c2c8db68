// report_checkpoint: figures against kvant::compare, 4-bit weights against bitsandbytes' own
// dequantization, transposed and partly kept weights, and output that can be shown anywhere.

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/error_metrics.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/look/report.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/golden.hpp"
#include "support/occurrences.hpp"

using kvant::MatrixView;
using kvant::look::CheckpointReport;
using kvant::look::report_checkpoint;
using kvant::test::CheckpointBuilder;
using kvant::test::wave;

namespace {

const std::string kCheckpoints = kvant::test::data_path("checkpoints/");

}  // namespace

TEST_CASE("report of bitsandbytes' 8-bit checkpoint equals compare() on its dequantized weights") {
  const CheckpointReport report =
      report_checkpoint(kCheckpoints + "fp32", kCheckpoints + "bnb_int8");
  const kvant::io::Checkpoint model(kCheckpoints + "fp32");
  const kvant::io::Checkpoint quantized(kCheckpoints + "bnb_int8");
  REQUIRE(report.layers.size() == 8);
  CHECK(report.other_tensors == 20);
  CHECK(report.other_equal == 20);
  for (const auto& layer : report.layers) {
    const auto weights = model.matrix<float>(layer.before.name + ".weight");
    const auto codes = quantized.matrix<std::int8_t>(layer.before.name + ".weight");
    const auto scales = quantized.values<float>(layer.before.name + ".SCB");
    std::vector<float> back(static_cast<std::size_t>(weights.size()));
    for (std::int64_t r = 0; r < weights.rows(); ++r) {
      for (std::int64_t c = 0; c < weights.cols(); ++c) {
        back[static_cast<std::size_t>(r * weights.cols() + c)] =
            static_cast<float>(codes(r, c)) * scales[static_cast<std::size_t>(r)] * (1.0f / 127);
      }
    }
    const auto expected = kvant::compare(
        weights, MatrixView<const float>(back.data(), weights.rows(), weights.cols()));
    INFO(layer.before.name);
    CHECK(layer.error.max == expected.max);
    CHECK(layer.error.mean == expected.mean);
    CHECK(layer.error.mse == expected.mse);
    CHECK(layer.error.sqnr_db == expected.sqnr_db);
    CHECK(layer.error.cosine == expected.cosine);
    CHECK(layer.bytes_after == static_cast<std::uint64_t>(codes.size() + 4 * codes.rows() + 1));
  }
  CHECK(report.total.sqnr_db > 43);
}

TEST_CASE("a model is equal to itself, and the number of threads changes nothing") {
  const CheckpointReport same = report_checkpoint(kCheckpoints + "fp32", kCheckpoints + "fp32");
  CHECK(std::isinf(same.total.sqnr_db));
  CHECK(same.total.max == 0);
  CHECK(same.other_equal == same.other_tensors);
  const auto run = [](int threads) {
    return to_json(report_checkpoint(kCheckpoints + "fp32", kCheckpoints + "bf16",
                                     {.threads = threads, .progress = {}}));
  };
  CHECK(run(1) == run(3));
}

TEST_CASE("4-bit weights are read as bitsandbytes dequantizes them") {
  const kvant::io::SafeTensors golden(
      kvant::test::data_path("bitsandbytes/linear4bit.safetensors"));
  const nlohmann::json cases = kvant::test::read_json("bitsandbytes/cases.json");
  for (const auto& entry : cases.at("linear4bit")) {
    const auto name = entry.at("name").get<std::string>();
    INFO(name);
    const auto type = entry.at("quant_type").get<std::string>();
    const auto rows = entry.at("n").get<std::uint64_t>();
    const auto cols = entry.at("k").get<std::uint64_t>();
    nlohmann::json state = {{"quant_type", type},
                            {"blocksize", entry.at("blocksize")},
                            {"dtype", entry.at("weight_dtype")},
                            {"shape", {rows, cols}}};
    CheckpointBuilder before;
    CheckpointBuilder after;
    const auto* info = golden.find(name + ".dequantized");
    if (info->dtype == kvant::DType::bfloat16) {
      before.add("x.weight", {rows, cols}, golden.values<kvant::bfloat16>(info->name));
    } else if (info->dtype == kvant::DType::float16) {
      before.add("x.weight", {rows, cols}, golden.values<kvant::float16>(info->name));
    } else {
      before.add("x.weight", {rows, cols}, golden.values<float>(info->name));
    }
    const auto packed = golden.values<std::uint8_t>(name + ".packed");
    after.add("x.weight", {packed.size(), 1}, packed);
    after.add("x.weight.quant_map", {16}, golden.values<float>(name + ".code"));
    if (entry.at("double_quant").get<bool>()) {
      const auto absmax = golden.values<std::uint8_t>(name + ".absmax");
      const auto nested = golden.values<float>(name + ".nested_absmax");
      after.add("x.weight.absmax", {absmax.size()}, absmax);
      after.add("x.weight.nested_absmax", {nested.size()}, nested);
      after.add("x.weight.nested_quant_map", {256}, golden.values<float>(name + ".nested_code"));
      state["nested_blocksize"] = entry.at("nested_blocksize");
      state["nested_dtype"] = "float32";
      state["nested_offset"] = golden.values<float>(name + ".offset").at(0);
    } else {
      const auto absmax = golden.values<float>(name + ".absmax");
      after.add("x.weight.absmax", {absmax.size()}, absmax);
    }
    const std::string text = state.dump();
    after.add("x.weight.quant_state.bitsandbytes__" + type, {text.size()},
              std::vector<std::uint8_t>(text.begin(), text.end()));
    const CheckpointReport report = report_checkpoint(before.write(), after.write());
    REQUIRE(report.layers.size() == 1);
    CHECK(report.layers[0].after.scheme() == type);
    CHECK(report.total.max == 0);
  }
}

TEST_CASE("GPT-2's transposed weights are compared the right way round") {
  CheckpointBuilder model;
  model.config(R"({"model_type": "gpt2", "vocab_size": 11})");
  model.add("transformer.h.0.mlp.c_fc.weight", {24, 40}, wave(960, 3));
  model.add("transformer.wte.weight", {11, 24}, wave(264, 4));
  const kvant::test::TempFolder out;
  kvant::io::quantize_checkpoint(model.write(), out.path() / "q");
  const CheckpointReport report = report_checkpoint(model.folder().path(), out.path() / "q");
  REQUIRE(report.layers.size() == 1);
  CHECK(report.layers[0].before.transposed);
  CHECK(report.layers[0].before.outputs == 40);
  CHECK(report.total.sqnr_db > 40);
}

TEST_CASE("kept outlier columns count as kept") {
  CheckpointBuilder model;
  model.config(R"({"model_type": "gpt_bigcode", "vocab_size": 11})");
  const std::string layer = "transformer.h.0.mlp.c_fc";
  model.add(layer + ".weight", {16, 32}, wave(512, 5));
  const kvant::test::TempFolder out;
  kvant::io::QuantizeCheckpointOptions options;
  kvant::io::quantize_checkpoint(model.write(), out.path() / "plain", options);
  options.keep_outliers[layer] = {3, 17};
  kvant::io::quantize_checkpoint(model.folder().path(), out.path() / "kept", options);
  const auto plain = report_checkpoint(model.folder().path(), out.path() / "plain");
  const auto kept = report_checkpoint(model.folder().path(), out.path() / "kept");
  CHECK(plain.layers.at(0).outlier_columns.empty());
  CHECK(kept.layers.at(0).outlier_columns == std::vector<std::int64_t>{3, 17});
  CHECK(kept.total.mse < plain.total.mse);
  CHECK(kept.layers[0].bytes_after == plain.layers[0].bytes_after + 2 * 8 + 2 * 16 * 2);
}

TEST_CASE("other models and broken ones are named errors") {
  CheckpointBuilder one;
  CheckpointBuilder other;
  CheckpointBuilder none;
  one.add("a.weight", {2, 3}, wave(6, 1));
  other.add("a.weight", {3, 2}, wave(6, 1));
  none.add("b.weight", {6}, wave(6, 1));
  const std::string first = one.write();
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(report_checkpoint(first, other.write()),
                    Contains("\"a\" is [2, 3]") && Contains("[3, 2]"));
  CHECK_THROWS_WITH(report_checkpoint(first, none.write()), Contains("no linear layer \"a\""));
  CHECK_THROWS_WITH(report_checkpoint(none.folder().path(), first), Contains("no linear layers"));
  CHECK_THROWS_AS(report_checkpoint(first, "/nonexistent"), kvant::Error);
}

TEST_CASE("pictures and pages are well formed, self-contained and escape names") {
  CheckpointBuilder before;
  CheckpointBuilder after;
  const std::string evil = "a<b>&\"'\x01</script>";
  before.add(evil + ".weight", {4, 8}, wave(32, 1)).add("nan.weight", {1, 2}, wave(2, 2));
  after.add(evil + ".weight", {4, 8}, wave(32, 2))
      .add("nan.weight", {1, 2}, std::vector<float>{NAN, 1});
  const CheckpointReport report = report_checkpoint(before.write(), after.write());
  const std::string svg = to_svg(report);
  const std::string html = to_html(report);
  CHECK(svg.find("</script>") == std::string::npos);
  CHECK(kvant::test::occurrences(html, "</script>") == 1);
  CHECK(html.find("a&lt;b&gt;&amp;") != std::string::npos);
  for (const char* tag : {"svg", "g", "text", "style", "title"}) {
    INFO(tag);
    const std::string name(tag);
    CHECK(kvant::test::occurrences(svg, "<" + name + " ") +
              kvant::test::occurrences(svg, "<" + name + ">") ==
          kvant::test::occurrences(svg, "</" + name + ">"));
  }
  // Nothing is loaded from elsewhere: the one address is the name of the SVG namespace.
  CHECK(kvant::test::occurrences(html, "http") == 1);
  CHECK(kvant::test::occurrences(html, " src=") == 0);
  const auto json = nlohmann::json::parse(to_json(report));
  CHECK(json.at("layers").size() == 2);
  CHECK(json.at("total").at("mse") == "nan");
  CHECK(to_text(report).find('\x01') == std::string::npos);
  CHECK(svg.find('\x01') == std::string::npos);
}
