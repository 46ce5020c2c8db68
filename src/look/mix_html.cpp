// A MixReport as one page: figures, the picture, the points, the layers.

#include "look/markup.hpp"
#include "look/mix_points.hpp"
#include "look/page.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

std::string number_cell(double value, int digits) {
  return cell(number_text(value, digits), sort_key(value));
}

std::string head(std::initializer_list<const char*> titles) {
  std::string row = "<table>\n<thead><tr>";
  for (const char* title : titles) row += "<th>" + std::string(title) + "</th>";
  return row + "</tr></thead>\n<tbody>\n";
}

}  // namespace

std::string to_html(const MixReport& report) {
  std::string page = page_start("Formats by layer: " + report.model, {}, 3);
  for (const std::string& line : made_by(report)) page += "<p>" + escape_markup(line) + "</p>\n";
  page += "<div class=\"figures\">\n";
  if (const MixPoint* chosen = report.chosen()) {
    page += figure("chosen", bytes_text(chosen->bytes)) +
            figure("bits a weight", number_text(chosen->bits, 4)) +
            figure("perplexity predicted", number_text(chosen->predicted, 5)) +
            figure("perplexity measured", measured_text(*chosen));
  }
  page += figure("in floats", number_text(report.float_perplexity, 5)) + "</div>\n" +
          to_svg(report) + "<h2>Models</h2>\n<p>Click a heading to sort.</p>\n" +
          head({"model", "kind", "size", "bytes", "bits", "predicted", "measured"});
  for (const MixPoint& point : by_size(report)) {
    page += "<tr>" + cell(point.label, point.label) + cell(kind_of(point), kind_of(point)) +
            cell(bytes_text(point.bytes), std::to_string(point.bytes)) +
            cell(std::to_string(point.bytes), std::to_string(point.bytes)) +
            number_cell(point.bits, 4) + number_cell(point.predicted, 6) +
            cell(measured_text(point), point.measured ? sort_key(*point.measured) : "") + "</tr>\n";
  }
  page += "</tbody>\n</table>\n<h2>Layers</h2>\n" +
          head({"layer", "shape", "format", "bits", "bytes", "output error", "loss, nats"});
  std::size_t order = 0;
  for (const MixReportLayer& layer : report.layers) {
    page += "<tr>" + cell(shown_name(layer.name), std::to_string(order++)) +
            cell(std::to_string(layer.outputs) + " \xC3\x97 " + std::to_string(layer.inputs),
                 std::to_string(layer.outputs * layer.inputs)) +
            cell(layer.format, layer.format) + number_cell(bits_of(layer), 4) +
            cell(bytes_text(layer.bytes), std::to_string(layer.bytes)) +
            number_cell(layer.output_error, 3) + number_cell(layer.loss, 3) + "</tr>\n";
  }
  return page + "</tbody>\n</table>\n" + page_end();
}

}  // namespace kvant::look
