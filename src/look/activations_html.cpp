// An ActivationReport as one page that needs nothing else: an overview, a table, a card for each
// input.

#include <cmath>

#include "kvant/look/activations.hpp"
#include "look/activations_svg.hpp"
#include "look/activations_text.hpp"
#include "look/markup.hpp"
#include "look/page.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr const char* kStyle = R"(<style>
body{max-width:1240px}
td:nth-child(n+2),th:nth-child(n+2){text-align:right}
table{font-size:.8em}
th,td{padding:.3em .45em}
.wide{overflow-x:auto}
.cards{display:flex;flex-wrap:wrap;gap:1em}
.card{border:1px solid #e5e7eb;border-radius:6px;padding:.8em;width:360px;box-sizing:content-box}
.card h3{font:bold 13px 'DejaVu Sans Mono',Menlo,Consolas,monospace;margin:0 0 .3em;
overflow-wrap:anywhere}
.card p{font-size:.8em;margin:.2em 0 .6em;color:#374151}
.card svg{display:block;margin-top:.5em}
.rules{font-size:.85em;color:#374151}
</style>
)";

std::string number_cell(double value) {
  return cell(number_text(value, 3), sort_key(value));
}

std::string count_cell(std::int64_t value) {
  return cell(std::to_string(value), std::to_string(value));
}

std::string method_cells(const std::vector<MethodEstimate>& methods) {
  const bool known = !methods.empty() && !std::isnan(methods.front().sqnr_db);
  const std::string gain = gain_text(methods);
  return cell(plain_text(methods), known ? sort_key(methods.front().sqnr_db) : "") +
         cell(gain, gain);
}

std::string table_row(const ActivationInput& input, const std::string& number) {
  std::string row = "<tr><td data-v=\"" + number + "\"><a href=\"#input-" + number + "\">" +
                    escape_markup(shown_name(input.layers.front())) + "</a></td>";
  row += count_cell(static_cast<std::int64_t>(input.layers.size())) + count_cell(input.features) +
         count_cell(input.tokens) + number_cell(input.median) + number_cell(input.p99) +
         number_cell(input.p999) + number_cell(input.largest) + count_cell(input.outlier_features) +
         cell(share_text(input.outlier_tokens, input.tokens), std::to_string(input.outlier_tokens));
  return row + method_cells(input.int8) + method_cells(input.int4) + "</tr>\n";
}

std::string card(const ActivationInput& input, double threshold, const std::string& number) {
  std::string text = "<section class=\"card\" id=\"input-" + number + "\">\n<h3>" +
                     escape_markup(shown_name(input.layers.front())) + "</h3>\n<p>";
  for (std::size_t i = 1; i < input.layers.size(); ++i) {
    text += (i == 1 ? "also read by " : ", ") + escape_markup(shown_name(input.layers[i]));
  }
  text += (input.layers.size() > 1 ? ". " : "") + std::to_string(input.features) + " features, " +
          std::to_string(input.outputs) + " outputs, " + std::to_string(input.tokens) +
          " tokens.</p>\n";
  if (!input.note.empty()) text += "<p>" + escape_markup(input.note) + "</p>\n";
  if (input.tokens > 0) {
    text += histogram_svg(input, threshold) + outliers_svg(input) + methods_svg(input);
  }
  return text + "</section>\n";
}

}  // namespace

std::string to_html(const ActivationReport& report) {
  std::string page = page_start("Activations: " + report.model, kStyle) + "<p>measured on " +
                     escape_markup(report.source) + "</p>\n<div class=\"figures\">\n";
  std::size_t layers = 0;
  std::size_t with_outliers = 0;
  std::size_t gain8 = 0;
  std::size_t gain4 = 0;
  const auto gains = [](const std::vector<MethodEstimate>& methods) {
    const std::size_t chosen = choose_method(methods);
    return chosen > 0 && chosen < methods.size();
  };
  for (const ActivationInput& input : report.inputs) {
    layers += input.layers.size();
    with_outliers += input.outlier_features > 0;
    gain8 += gains(input.int8);
    gain4 += gains(input.int4);
  }
  const auto of_all = [&](std::size_t count) {
    return std::to_string(count) + " of " + std::to_string(report.inputs.size());
  };
  page += figure("tokens", std::to_string(report.tokens)) +
          figure("linear layers", std::to_string(layers)) +
          figure("inputs with outliers", of_all(with_outliers)) +
          figure("8 bits: inputs that gain", of_all(gain8)) +
          figure("4 bits: inputs that gain", of_all(gain4)) + "</div>\n";
  for (const std::string& warning : report.warnings) {
    page += "<p>warning: " + escape_markup(warning) + "</p>\n";
  }
  page += "<div class=\"wide\">\n" + overview_svg(report) + "</div>\n<div class=\"rules\">\n";
  for (const std::string& line : explanations(report)) {
    page += "<p>" + escape_markup(line) + "</p>\n";
  }
  page +=
      "</div>\n<h2>Inputs</h2>\n<p>Click a heading to sort.</p>\n<div class=\"wide\">\n"
      "<table>\n<thead><tr>";
  for (const char* head :
       {"input of", "layers", "features", "tokens", "median", "99 %", "99.9 %", "largest",
        "outliers", "in tokens", "8 bits", "take", "4 bits", "take"}) {
    page += "<th>" + std::string(head) + "</th>";
  }
  page += "</tr></thead>\n<tbody>\n";
  std::size_t number = 0;
  for (const ActivationInput& input : report.inputs) {
    page += table_row(input, std::to_string(number++));
  }
  page += "</tbody>\n</table>\n</div>\n<h2>Distributions</h2>\n<div class=\"cards\">\n";
  number = 0;
  for (const ActivationInput& input : report.inputs) {
    page += card(input, report.threshold, std::to_string(number++));
  }
  return page + "</div>\n" + page_end();
}

}  // namespace kvant::look
