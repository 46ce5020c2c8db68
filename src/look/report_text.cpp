// A CheckpointReport as a table and as JSON.

#include <cmath>
#include <nlohmann/json.hpp>

#include "kvant/look/report.hpp"
#include "look/json_number.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

std::string percent(std::uint64_t after, std::uint64_t before) {
  if (before == 0) return "-";
  return number_text(100.0 * static_cast<double>(after) / static_cast<double>(before), 3) + " %";
}

nlohmann::ordered_json error_json(const ErrorMetrics& error) {
  return {{"max_error", json_number(error.max)},
          {"mean_error", json_number(error.mean)},
          {"mse", json_number(error.mse)},
          {"sqnr_db", json_number(error.sqnr_db)},
          {"cosine", json_number(error.cosine)}};
}

}  // namespace

std::string to_text(const CheckpointReport& report) {
  TextTable table({{"layer"},
                   {"shape"},
                   {"from"},
                   {"to"},
                   {"max error", Align::right},
                   {"mean error", Align::right},
                   {"MSE", Align::right},
                   {"SQNR dB", Align::right},
                   {"cosine", Align::right},
                   {"outliers", Align::right},
                   {"bytes", Align::right},
                   {"after", Align::right},
                   {"", Align::right}});
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  std::size_t outliers = 0;
  const auto add = [&](std::vector<std::string> start, const ErrorMetrics& error,
                       std::size_t columns, std::uint64_t from, std::uint64_t to) {
    start.insert(start.end(),
                 {number_text(error.max, 3), number_text(error.mean, 3), number_text(error.mse, 3),
                  decibel_text(error.sqnr_db), number_text(error.cosine, 7),
                  columns == 0 ? "-" : std::to_string(columns), bytes_text(from), bytes_text(to),
                  percent(to, from)});
    table.add(std::move(start));
  };
  for (const LayerReport& layer : report.layers) {
    add({shown_name(layer.before.name),
         std::to_string(layer.before.outputs) + " x " + std::to_string(layer.before.inputs),
         std::string(layer.before.scheme()), std::string(layer.after.scheme())},
        layer.error, layer.outlier_columns.size(), layer.bytes_before, layer.bytes_after);
    before += layer.bytes_before;
    after += layer.bytes_after;
    outliers += layer.outlier_columns.size();
  }
  table.rule();
  add({counted(report.layers.size(), "linear layer"), "", "", ""}, report.total, outliers, before,
      after);
  std::string text = table.text() + "\n";
  text += "whole model: " + bytes_text(report.bytes_before) + " -> " +
          bytes_text(report.bytes_after) + " (" + percent(report.bytes_after, report.bytes_before) +
          "); " + std::to_string(report.other_equal) + " of " +
          counted(report.other_tensors, "other tensor") + " unchanged\n";
  for (const io::Warning& warning : report.warnings) text += "warning: " + warning.text + "\n";
  return text;
}

std::string to_json(const CheckpointReport& report) {
  nlohmann::ordered_json json;
  json["model"] = report.model;
  json["quantized"] = report.quantized;
  json["bytes_before"] = report.bytes_before;
  json["bytes_after"] = report.bytes_after;
  json["total"] = error_json(report.total);
  json["other_tensors"] = report.other_tensors;
  json["other_tensors_unchanged"] = report.other_equal;
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerReport& layer : report.layers) {
    nlohmann::ordered_json row;
    row["name"] = layer.before.name;
    row["outputs"] = layer.before.outputs;
    row["inputs"] = layer.before.inputs;
    row["from"] = layer.before.scheme();
    row["to"] = layer.after.scheme();
    row.update(error_json(layer.error));
    row["outlier_columns"] = layer.outlier_columns;
    row["bytes_before"] = layer.bytes_before;
    row["bytes_after"] = layer.bytes_after;
    json["layers"].push_back(std::move(row));
  }
  json["warnings"] = nlohmann::ordered_json::array();
  for (const io::Warning& warning : report.warnings) json["warnings"].push_back(warning.text);
  // Paths may hold bytes that are not UTF-8.
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
