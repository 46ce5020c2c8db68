// kvant report --activations: its tables, its JSON, and its page as a browser shows it.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "support/browser.hpp"
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
using nlohmann::json;

namespace {

namespace fs = std::filesystem;

json read_json(const std::string& file) {
  return json::parse(std::ifstream(file));
}

const std::vector<std::string> kFew{"--windows", "2", "--window", "128", "--quiet"};

ProcessResult report(std::vector<std::string> words, const std::vector<std::string>& more = {}) {
  words.insert(words.begin(), {"report", "--activations"});
  words.insert(words.end(), more.begin(), more.end());
  return kvant_program(words);
}

/// Sorts the table by "largest", measures bars and texts where they stand, and paints one histogram
/// onto a canvas to see the colours of its bars.
constexpr const char* kProbe = R"(
var found = {title: document.title, errors: window.errors, cards: [], clipped: []};
found.figures = [].map.call(document.querySelectorAll('.figures div'), function (div) {
  return div.textContent; });
found.overview = document.querySelectorAll('#overview g.input').length;
found.overflow = document.documentElement.scrollWidth - window.innerWidth;
document.querySelectorAll('.wide').forEach(function (box) {
  found.overflow = Math.max(found.overflow, box.scrollWidth - box.clientWidth); });
document.querySelectorAll('.card').forEach(function (card) {
  var one = {name: card.querySelector('h3').textContent, bins: [], methods: {}, features: []};
  card.querySelectorAll('.bin').forEach(function (bar) {
    var box = bar.getBoundingClientRect();
    one.bins.push([Number(bar.dataset.count), box.width, box.height, box.left]);
  });
  card.querySelectorAll('.method').forEach(function (bar) {
    one.methods[bar.dataset.method] = [bar.getBoundingClientRect().width,
                                       bar.classList.contains('taken')];
  });
  card.querySelectorAll('.outlier').forEach(function (bar) {
    one.features.push([Number(bar.dataset.feature), bar.getBoundingClientRect().width]);
  });
  found.cards.push(one);
});
document.querySelectorAll('svg text').forEach(function (text) {
  var box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
  if (box.right > svg.right + 1 || box.left < svg.left - 1) found.clipped.push(text.textContent);
});
document.querySelectorAll('th')[7].click();
found.sorted = [].map.call(document.querySelectorAll('tbody tr'), function (row) {
  return Number(row.cells[7].dataset.v); });
var svg = document.querySelector('.histogram'), picture = new Image();
function finish() {
  var pre = document.createElement('pre');
  pre.id = 'found';
  pre.textContent = JSON.stringify(found);
  document.body.appendChild(pre);
}
picture.onload = function () {
  var canvas = document.createElement('canvas');
  canvas.width = svg.width.baseVal.value;
  canvas.height = svg.height.baseVal.value;
  var context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  found.colours = [].map.call(svg.querySelectorAll('.bin'), function (bar) {
    // (The threshold's line goes through the middle of the bar from 4 to 8.)
    var x = bar.x.baseVal.value + bar.width.baseVal.value / 4;
    var y = bar.y.baseVal.value + bar.height.baseVal.value / 2;
    var p = context.getImageData(x, y, 1, 1).data;
    return '#' + [p[0], p[1], p[2]].map(function (v) {
      return ('0' + v.toString(16)).slice(-2); }).join('');
  });
  found.fills = [].map.call(svg.querySelectorAll('.bin'), function (bar) {
    return bar.getAttribute('fill'); });
  finish();
};
picture.onerror = function () { found.errors.push('the picture does not load'); finish(); };
picture.src = 'data:image/svg+xml,' + encodeURIComponent(new XMLSerializer().serializeToString(svg));
)";

}  // namespace

TEST_CASE("kvant report --activations: a text and its statistics say the same") {
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  std::vector<std::string> words{kTinyText, kTinyModel, "--json", path("a.json")};
  const ProcessResult from_text = report(words, kFew);
  INFO(from_text.err);
  REQUIRE(from_text.exit_code == 0);
  CHECK_THAT(from_text.out, Contains("16 inputs over 256 tokens"));
  CHECK_THAT(from_text.out, Contains("transformer.h.0.attn.c_attn") && Contains("smoothquant +"));
  CHECK_THAT(from_text.out, Contains("warning: only 256 tokens"));

  const std::string stats = path("stats.safetensors");
  REQUIRE(kvant_program({"calibrate", kTinyModel, kTinyText, "--out", stats, "--windows", "2",
                         "--window", "128", "--quiet"})
              .exit_code == 0);
  const ProcessResult from_file = report({stats, kTinyModel, "--json", "-", "--quiet"});
  REQUIRE(from_file.exit_code == 0);
  json first = read_json(path("a.json"));
  json second = json::parse(from_file.out);
  CHECK(first["source"] == kTinyText);
  CHECK(second["source"] == stats);
  CHECK(first["inputs"] == second["inputs"]);
  const json& input = first["inputs"][0];
  CHECK(input["tokens"] == 256);
  CHECK(input["outlier_features"].get<int>() >= 3);
  CHECK(input["int8"]["proposed"] == "smoothquant");
  std::int64_t elements = input["zeros"];
  for (const json& bin : input["histogram"]) elements += bin[2].get<std::int64_t>();
  CHECK(elements == 256 * 256);

  // kvant inspect takes it for what it is.
  const ProcessResult inspected = kvant_program({"inspect", stats});
  CHECK(inspected.exit_code == 0);
  CHECK_THAT(inspected.out, Contains("statistics of activations") && !Contains("bits per weight"));

  CHECK_THAT(kvant_failure({"report", "--activations", stats, kTinyModel, "--windows", "3"}, 2),
             Contains("--windows is for a text"));
  const std::string other = std::string(KVANT_TEST_DATA) + "/families/llama_bias";
  CHECK_THAT(kvant_failure({"report", "--activations", stats, other}, 1),
             Contains("of type gpt_bigcode"));
}

TEST_CASE(
    "kvant report --activations: no text, too little, bytes that are none; the other report") {
  const TempFolder folder;
  const auto failure = [&](const std::string& text) {
    const std::string file = folder.write("text", text).string();
    return kvant_failure({"report", "--activations", file, kTinyModel, "--html",
                          (folder.path() / "page.html").string()},
                         1);
  };
  CHECK_THAT(failure(" \n"), Contains("holds no text"));
  CHECK_THAT(failure("x"), Contains("tokens for this model"));
  CHECK_THAT(failure(std::string("a\0b", 3)), Contains("is no text"));
  CHECK(!fs::exists(folder.path() / "page.html"));
  CHECK_THAT(kvant_failure({"report", "--activations", "/nonexistent", kTinyModel}, 1),
             Contains("/nonexistent"));
  CHECK_THAT(kvant_failure({"report", kTinyModel}, 2), Contains("QUANTIZED"));
  const ProcessResult compared =
      kvant_program({"report", kTinyModel, kTinyModel, "--json", "--quiet"});
  CHECK(compared.exit_code == 0);
  CHECK(json::parse(compared.out)["layers"].size() == 16);
}

TEST_CASE("kvant report --activations: the page shows in a browser what it says") {
  if (!kvant::test::browser_runs()) {
    WARN("skipped: no browser runs here (Debian: chromium)");
    return;
  }
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  REQUIRE(report({kTinyText, kTinyModel, "--json", path("a.json"), "--html", path("a.html")}, kFew)
              .exit_code == 0);
  const std::string dom = kvant::test::opened_page(kvant::test::read_text(path("a.html")), kProbe);
  const std::size_t begin = dom.find("<pre id=\"found\">");
  REQUIRE(begin != std::string::npos);
  const std::size_t text = begin + std::string("<pre id=\"found\">").size();
  const json found = json::parse(dom.substr(text, dom.find("</pre>", text) - text));
  const json said = read_json(path("a.json"));

  CHECK(found["errors"] == json::array());
  CHECK(found["clipped"] == json::array());
  CHECK(found["overflow"] <= 0);
  CHECK(found["title"] == "Activations: " + kTinyModel);
  CHECK(found["overview"] == said["inputs"].size());
  CHECK(found["figures"][0] == "tokens256");
  CHECK(found["figures"][1] == "linear layers16");
  REQUIRE(found["cards"].size() == said["inputs"].size());
  std::vector<double> largest;
  for (std::size_t i = 0; i < said["inputs"].size(); ++i) {
    const json& input = said["inputs"][i];
    const json& card = found["cards"][i];
    CAPTURE(input["name"].get<std::string>());
    largest.push_back(input["percentiles"]["100"]);
    CHECK(card["name"] == input["name"]);

    // A bar for each power of two that occurs, from left to right, as tall as the log of its count.
    std::vector<double> counts;
    for (const json& bin : input["histogram"]) {
      if (bin[2] > 0) counts.push_back(bin[2]);
    }
    REQUIRE(card["bins"].size() == counts.size());
    const auto most =
        static_cast<std::size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
    for (std::size_t b = 0; b < counts.size(); ++b) {
      const json& bar = card["bins"][b];
      CHECK(bar[0] == counts[b]);
      CHECK(bar[1] > 3);
      if (b > 0) CHECK(bar[3] > card["bins"][b - 1][3]);
      // Five decades of 256 or 1024 x 256 elements are 120 high.
      const double total = 256.0 * input["features"].get<double>();
      const double decade = 120 / std::ceil(std::log10(total));
      const double fall = decade * std::log10(counts[most] / counts[b]);
      const double expected = std::max(1.5, card["bins"][most][2].get<double>() - fall);
      CHECK(std::fabs(bar[2].get<double>() - expected) < 0.5);
    }
    for (const char* bits : {"int8", "int4"}) {
      for (const auto& [method, sqnr] : input[bits]["sqnr_db"].items()) {
        CAPTURE(method);
        CHECK(card["methods"].contains(method) == !sqnr.is_null());
        if (sqnr.is_null()) continue;
        CHECK(card["methods"][method][0] > 3);
        CHECK(card["methods"][method][1] == (input[bits]["proposed"] == method));
      }
    }
    const std::size_t shown = std::min<std::size_t>(8, input["largest_outliers"].size());
    REQUIRE(card["features"].size() == shown);
    for (std::size_t f = 0; f < shown; ++f) {
      CHECK(card["features"][f][0] == input["largest_outliers"][f]["feature"]);
      CHECK(card["features"][f][1].get<double>() <= card["features"][0][1].get<double>());
    }
  }
  std::sort(largest.begin(), largest.end());
  CHECK(found["sorted"] == json(largest));
  CHECK(found["colours"] == found["fills"]);
  CHECK(std::count(found["fills"].begin(), found["fills"].end(), "#e08a1e") > 0);
}
