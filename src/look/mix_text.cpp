// A MixReport as tables and as JSON.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kvant/look/mix_report.hpp"
#include "look/json_number.hpp"
#include "look/mix_points.hpp"
#include "look/text_table.hpp"

namespace kvant::look {

const MixPoint* MixReport::chosen() const noexcept {
  const auto it = std::find_if(points.begin(), points.end(), [](const MixPoint& point) {
    return point.kind == MixPointKind::chosen;
  });
  return it == points.end() ? nullptr : &*it;
}

std::string_view kind_of(const MixPoint& point) {
  switch (point.kind) {
    case MixPointKind::uniform: return "uniform";
    case MixPointKind::mix: return "mix";
    case MixPointKind::chosen: break;
  }
  return "chosen";
}

std::vector<MixPoint> by_size(const MixReport& report) {
  std::vector<MixPoint> points = report.points;
  std::stable_sort(points.begin(), points.end(),
                   [](const MixPoint& a, const MixPoint& b) { return a.bytes < b.bytes; });
  return points;
}

std::string measured_text(const MixPoint& point) {
  return point.measured ? number_text(*point.measured, 6) : "-";
}

std::vector<std::string> made_by(const MixReport& report) {
  return {"sensitivities: " + report.method + ", on " + report.measured_on + " (" +
              counted(static_cast<std::uint64_t>(report.tokens), "token") + ", " +
              counted(static_cast<std::uint64_t>(report.runs), "run") + ")",
          "perplexities: on " + report.evaluated_on + ", " + report.arithmetic +
              " arithmetic; in floats " + number_text(report.float_perplexity, 6),
          "budget: " + report.budget + "; by these sensitivities the mix is within " +
              number_text(100 * report.gap, 2) + " % of the best"};
}

std::string to_text(const MixReport& report) {
  TextTable layers({{"layer"},
                    {"shape"},
                    {"format"},
                    {"bits", Align::right},
                    {"bytes", Align::right},
                    {"output error", Align::right},
                    {"loss, nats", Align::right}});
  for (const MixReportLayer& layer : report.layers) {
    layers.add({shown_name(layer.name),
                std::to_string(layer.outputs) + " x " + std::to_string(layer.inputs), layer.format,
                number_text(bits_of(layer), 4), bytes_text(layer.bytes),
                number_text(layer.output_error, 3), number_text(layer.loss, 3)});
  }
  TextTable points({{"model"},
                    {"kind"},
                    {"bytes", Align::right},
                    {"bits", Align::right},
                    {"predicted", Align::right},
                    {"measured", Align::right}});
  for (const MixPoint& point : by_size(report)) {
    points.add({point.label, std::string(kind_of(point)), std::to_string(point.bytes),
                number_text(point.bits, 4), number_text(point.predicted, 6), measured_text(point)});
  }
  std::string text =
      layers.text() + "\nperplexity against bytes of the whole model:\n" + points.text() + "\n";
  for (const std::string& line : made_by(report)) text += line + "\n";
  return text;
}

std::string to_json(const MixReport& report) {
  nlohmann::ordered_json json;
  json["model"] = report.model;
  json["method"] = report.method;
  json["arithmetic"] = report.arithmetic;
  json["budget"] = report.budget;
  json["measured_on"] = report.measured_on;
  json["evaluated_on"] = report.evaluated_on;
  json["tokens"] = report.tokens;
  json["runs"] = report.runs;
  json["float_perplexity"] = json_number(report.float_perplexity);
  json["gap"] = json_number(report.gap);
  json["points"] = nlohmann::ordered_json::array();
  for (const MixPoint& point : by_size(report)) {
    nlohmann::ordered_json each = {{"label", point.label},
                                   {"kind", kind_of(point)},
                                   {"bytes", point.bytes},
                                   {"bits", json_number(point.bits)},
                                   {"predicted", json_number(point.predicted)}};
    if (point.measured) each["measured"] = json_number(*point.measured);
    json["points"].push_back(std::move(each));
  }
  json["layers"] = nlohmann::ordered_json::array();
  for (const MixReportLayer& layer : report.layers) {
    json["layers"].push_back({{"name", layer.name},
                              {"shape", {layer.outputs, layer.inputs}},
                              {"format", layer.format},
                              {"bytes", layer.bytes},
                              {"bits", json_number(bits_of(layer))},
                              {"output_error", json_number(layer.output_error)},
                              {"loss", json_number(layer.loss)}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
