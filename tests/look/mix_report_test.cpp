// MixReport as text, JSON, picture and page.

#include <nlohmann/json.hpp>
#include <string>

#include "kvant/look/mix_report.hpp"
#include "support/catch.hpp"
#include "support/occurrences.hpp"

namespace {

using Catch::Matchers::Contains;
using kvant::look::MixPointKind;
using kvant::look::MixReport;

MixReport report() {
  MixReport report;
  report.model = "a <model> & more";
  report.method = "divergence (reference int4:64)";
  report.arithmetic = "exact";
  report.budget = "4.5bits";
  report.measured_on = "a.txt";
  report.evaluated_on = "b.txt";
  report.tokens = 1020;
  report.runs = 15;
  report.float_perplexity = 37.9;
  report.gap = 0.0004;
  report.points = {{"int4:64", MixPointKind::uniform, 80'000'000, 4.3125, 45.0, 46.3},
                   {"int2:64", MixPointKind::uniform, 50'000'000, 2.28, 4e5, 9e6},
                   {"mix, 4 bits", MixPointKind::mix, 76'000'000, 4.0, 44.0, {}},
                   {"chosen", MixPointKind::chosen, 79'000'000, 4.3, 42.0, 42.5}};
  report.layers = {{"model.layers.0.mlp.up_proj", 64, 32, "int4:64", 1104, 0.01, 2e-4},
                   {"evil\n<b>", 64, 32, "fp16", 4096, 0, 0}};
  return report;
}

}  // namespace

TEST_CASE("mix reports: text and JSON have the points by size") {
  const std::string text = to_text(report());
  CHECK(text.find("int2:64") < text.find("mix, 4 bits"));
  CHECK_THAT(text, Contains("within 0.04 % of the best") && Contains("divergence"));
  CHECK_THAT(text, !Contains("evil\n"));
  const auto json = nlohmann::json::parse(to_json(report()));
  REQUIRE(json["points"].size() == 4);
  CHECK(json["points"][2]["label"] == "chosen");
  CHECK(json["points"][2]["measured"] == 42.5);
  CHECK(!json["points"][1].contains("measured"));
  CHECK(json["layers"][0]["bits"] == 1104.0 * 8 / 2048);
}

TEST_CASE("mix reports: the picture shows every point, and those far above as arrows") {
  const std::string svg = to_svg(report());
  CHECK_THAT(svg, Contains("a &lt;model&gt; &amp; more") && Contains("in floats 37.9"));
  CHECK(kvant::test::occurrences(svg, "<title>") == 4);
  CHECK(kvant::test::occurrences(svg, "Z\" fill=") == 1);
  CHECK_THAT(svg, Contains("int2:64 9e+06"));
  CHECK(kvant::test::occurrences(svg, "<g>") == kvant::test::occurrences(svg, "</g>"));
  CHECK_THAT(svg, !Contains("nan") && !Contains("inf\""));
  const std::string page = to_html(report());
  CHECK_THAT(page, Contains("</svg>") && Contains("42.5") && !Contains("<b>\"") &&
                       Contains("model.layers.0.mlp.up_proj"));
  CHECK(kvant::test::occurrences(page, "<table>") == 2);
  // Nothing to show is still a picture.
  CHECK_THAT(to_svg(MixReport{}), Contains("</svg>") && !Contains("nan"));
}
