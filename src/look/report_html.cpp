// A CheckpointReport as one page that needs nothing else: totals, the chart, a table that sorts
// when a heading is clicked.

#include <cmath>

#include "kvant/look/report.hpp"
#include "look/markup.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr const char* kHead = R"(<meta name="viewport" content="width=device-width">
<style>
body{font-family:system-ui,'DejaVu Sans',sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;
color:#111827;background:#fff}
h1{font-size:1.4em}
svg{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:.85em;width:100%}
th,td{padding:.3em .6em;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th{cursor:pointer;background:#f3f4f6;position:sticky;top:0}
th:hover{background:#e5e7eb}
td:nth-child(-n+4),th:nth-child(-n+4){text-align:left}
td:first-child{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace}
tfoot td{font-weight:bold}
.figures{display:flex;flex-wrap:wrap;gap:2em;margin:1em 0}
.figures b{display:block;font-size:1.3em}
</style>
)";

constexpr const char* kScript = R"(<script>
document.querySelectorAll('th').forEach(function (head, column) {
  var down = false;
  head.addEventListener('click', function () {
    var body = document.querySelector('tbody');
    var rows = Array.prototype.slice.call(body.rows);
    var key = function (row) { return row.cells[column].dataset.v; };
    rows.sort(function (a, b) {
      var x = key(a), y = key(b), m = parseFloat(x), n = parseFloat(y);
      if (isNaN(m) || isNaN(n)) return x < y ? -1 : x > y ? 1 : 0;
      return m - n;
    });
    if (down) rows.reverse();
    down = !down;
    rows.forEach(function (row) { body.appendChild(row); });
  });
});
</script>
)";

/// A value that parseFloat of JavaScript reads back; infinities beyond every number.
std::string sort_key(double value) {
  if (std::isinf(value)) return value > 0 ? "1e999" : "-1e999";
  return number_text(value, 17);
}

std::string cell(std::string_view text, std::string_view key) {
  return "<td data-v=\"" + escape_markup(key) + "\">" + escape_markup(text) + "</td>";
}

std::string error_cells(const ErrorMetrics& error) {
  return cell(number_text(error.max, 3), sort_key(error.max)) +
         cell(number_text(error.mean, 3), sort_key(error.mean)) +
         cell(number_text(error.mse, 3), sort_key(error.mse)) +
         cell(decibel_text(error.sqnr_db), sort_key(error.sqnr_db)) +
         cell(number_text(error.cosine, 7), sort_key(error.cosine));
}

std::string figure(std::string_view title, std::string_view value) {
  return "<div>" + escape_markup(title) + "<b>" + escape_markup(value) + "</b></div>\n";
}

}  // namespace

std::string to_html(const CheckpointReport& report) {
  const std::string title = "Quantization report: " + report.quantized;
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" +
      escape_markup(title) + "</title>\n" + kHead + "</head>\n<body>\n<h1>" + escape_markup(title) +
      "</h1>\n<p>compared with " + escape_markup(report.model) + "</p>\n<div class=\"figures\">\n";
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
  return page + kScript + "</body>\n</html>\n";
}

}  // namespace kvant::look
