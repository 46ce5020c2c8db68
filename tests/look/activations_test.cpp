// Reports about activations: the rule by which a method is taken, and output that can be shown
// anywhere.

#include "kvant/look/activations.hpp"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "support/catch.hpp"
#include "support/occurrences.hpp"

using kvant::look::ActivationInput;
using kvant::look::ActivationReport;
using kvant::look::choose_method;

namespace {

using Catch::Matchers::Contains;

/// One input with everything, one that no token reached.
ActivationReport small_report(const std::string& name) {
  ActivationInput input;
  input.layers = {name, "second"};
  input.features = 8;
  input.outputs = 12;
  input.tokens = 10;
  input.outlier_tokens = 5;
  input.outlier_features = 1;
  input.median = 0.5;
  input.p99 = 2;
  input.p999 = 7;
  input.p9999 = 7;
  input.largest = 7;
  input.outliers = {{3, 7.0, 4.0, 5}};
  input.histogram = {{0.25, 0.5, 30}, {0.5, 1, 0}, {1, 2, 40}, {2, 4, 4}, {4, 8, 5}};
  input.zeros = 1;
  input.int8 = {{"int8", 30.04}, {"smoothquant", NAN}, {"llm-int8", 38.0}};
  input.int4 = {{"int4", 20.0}, {"awq", 20.5}, {"gptq", NAN}};
  ActivationInput unseen;
  unseen.layers = {"expert"};
  unseen.note = "no token of the text reached it";
  ActivationReport report;
  report.model = "model<1>";
  report.source = "text";
  report.tokens = 10;
  report.inputs = {input, unseen};
  report.warnings = {"a <warning>"};
  return report;
}

}  // namespace

TEST_CASE("activations: a method that costs more is taken where it gains a decibel") {
  CHECK(choose_method({}) == 0);
  CHECK(choose_method({{"a", NAN}, {"b", NAN}}) == 2);
  CHECK(choose_method({{"a", 10}, {"b", 10.9}, {"c", 10.5}}) == 0);
  CHECK(choose_method({{"a", 10}, {"b", 11}, {"c", 11.9}}) == 1);
  CHECK(choose_method({{"a", 10}, {"b", 11}, {"c", 12}}) == 2);
  CHECK(choose_method({{"a", 10}, {"b", NAN}, {"c", 12}}) == 2);
  CHECK(choose_method({{"a", NAN}, {"b", 5}}) == 1);
}

TEST_CASE("activations: tables and JSON") {
  const std::string text = to_text(small_report("first"));
  CHECK_THAT(text, Contains("30.0  llm-int8 +8.0") && Contains("20.0  int4"));
  CHECK_THAT(text, Contains("50 %") && Contains("expert: no token of the text reached it"));
  CHECK_THAT(text, Contains("8 bits: 1 of 1 input would gain") && Contains("1 from llm-int8"));
  CHECK_THAT(text, Contains("4 bits: 0 of 1 input would gain"));
  CHECK_THAT(text, Contains("warning: a <warning>"));
  const auto json = nlohmann::json::parse(to_json(small_report("first")));
  const auto& input = json["inputs"][0];
  CHECK(input["layers"] == nlohmann::json({"first", "second"}));
  CHECK(input["percentiles"]["99.9"] == 7);
  CHECK(input["int8"]["proposed"] == "llm-int8");
  CHECK(input["int8"]["sqnr_db"]["smoothquant"].is_null());
  CHECK(input["largest_outliers"][0]["feature"] == 3);
  CHECK(input["histogram"][4] == nlohmann::json({4.0, 8.0, 5}));
  CHECK(json["inputs"][1]["int4"]["proposed"].is_null());
  CHECK(json["inputs"][1]["note"] == "no token of the text reached it");
}

TEST_CASE("activations: pages are well formed, self-contained and escape names") {
  const std::string evil = "a<b>&\"'\x01</script>\xFF";
  const std::string html = to_html(small_report(evil));
  CHECK(kvant::test::occurrences(html, "</script>") == 1);
  CHECK(html.find("a&lt;b&gt;&amp;") != std::string::npos);
  CHECK(html.find('\x01') == std::string::npos);
  CHECK(html.find('\xFF') == std::string::npos);
  for (const char* tag : {"svg", "g", "text", "style", "title", "section", "p", "td", "table"}) {
    INFO(tag);
    const std::string name(tag);
    CHECK(kvant::test::occurrences(html, "<" + name + " ") +
              kvant::test::occurrences(html, "<" + name + ">") ==
          kvant::test::occurrences(html, "</" + name + ">"));
  }
  // Nothing is loaded from elsewhere: the addresses are the name of the SVG namespace.
  CHECK(kvant::test::occurrences(html, "http") == kvant::test::occurrences(html, "<svg"));
  CHECK(kvant::test::occurrences(html, " src=") == 0);
  CHECK(kvant::test::occurrences(html, "class=\"bin\"") == 4);
  CHECK(kvant::test::occurrences(html, "nan") == 0);
  CHECK(to_text(small_report(evil)).find('\x01') == std::string::npos);
  CHECK(nlohmann::json::accept(to_json(small_report(evil))));
}

TEST_CASE("activations: magnitudes at the ends of what floats hold") {
  ActivationReport report = small_report("first");
  ActivationInput& input = report.inputs[0];
  input.largest = static_cast<double>(std::numeric_limits<float>::max());
  input.median = 0;
  input.histogram = {{std::ldexp(1.0, 127), std::ldexp(1.0, 128), 80}};
  const std::string html = to_html(report);
  CHECK(kvant::test::occurrences(html, "class=\"bin\"") == 1);
  CHECK(kvant::test::occurrences(html, "inf") == 0);
  report.inputs.clear();  // nothing at all
  CHECK(!to_html(report).empty());
  CHECK(!to_text(report).empty());
}
