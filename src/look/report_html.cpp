// A CheckpointReport as one page that needs nothing else: totals, the chart, a table that sorts
// when a heading is clicked.

#include <cmath>

#include "kvant/look/report.hpp"
#include "look/html_page.hpp"
#include "look/markup.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

std::string error_cells(const ErrorMetrics& error) {
  return cell(number_text(error.max, 3), sort_key(error.max)) +
         cell(number_text(error.mean, 3), sort_key(error.mean)) +
         cell(number_text(error.mse, 3), sort_key(error.mse)) +
         cell(decibel_text(error.sqnr_db), sort_key(error.sqnr_db)) +
         cell(number_text(error.cosine, 7), sort_key(error.cosine));
}

}  // namespace

std::string to_html(const CheckpointReport& report) {
  const std::string title = "Quantization report: " + report.quantized;
  std::string page = page_start(title, 4) + "<p>compared with " + escape_markup(report.model) +
                     "</p>\n<div class=\"figures\">\n";
  const bool finite = std::isfinite(report.total.sqnr_db);
  page += figure("whole model", bytes_text(report.bytes_before) + " \xE2\x86\x92 " +
                                    bytes_text(report.bytes_after));
  page += figure("total SQNR", decibel_text(report.total.sqnr_db) + (finite ? " dB" : ""));
  page += figure("linear layers", std::to_string(report.layers.size()));
  page += figure("other tensors unchanged", std::to_string(report.other_equal) + " of " +
                                                std::to_string(report.other_tensors));
  page += "</div>\n" + to_svg(report) +
          "<h2>Layers</h2>\n<p>Click a heading to sort.</p>\n<table>\n<thead><tr>";
  for (const char* head : {"layer", "shape", "from", "to", "max error", "mean error", "MSE",
                           "SQNR dB", "cosine", "outliers", "bytes", "after"}) {
    page += "<th>" + std::string(head) + "</th>";
  }
  page += "</tr></thead>\n<tbody>\n";
  std::size_t order = 0;
  for (const LayerReport& layer : report.layers) {
    page += "<tr>" + cell(shown_name(layer.before.name), std::to_string(order++)) +
            cell(std::to_string(layer.before.outputs) + " \xC3\x97 " +
                     std::to_string(layer.before.inputs),
                 std::to_string(layer.before.elements())) +
            cell(layer.before.scheme(), layer.before.scheme()) +
            cell(layer.after.scheme(), layer.after.scheme()) + error_cells(layer.error) +
            cell(std::to_string(layer.outlier_columns.size()),
                 std::to_string(layer.outlier_columns.size())) +
            cell(bytes_text(layer.bytes_before), std::to_string(layer.bytes_before)) +
            cell(bytes_text(layer.bytes_after), std::to_string(layer.bytes_after)) + "</tr>\n";
  }
  page += "</tbody>\n<tfoot><tr>" + cell("total", "") + cell("", "") + cell("", "") + cell("", "") +
          error_cells(report.total) + cell("", "") + cell(bytes_text(report.bytes_before), "") +
          cell(bytes_text(report.bytes_after), "") + "</tr></tfoot>\n</table>\n";
  for (const io::Warning& warning : report.warnings) {
    page += "<p>warning: " + escape_markup(warning.text) + "</p>\n";
  }
  return page + page_end();
}

}  // namespace kvant::look
