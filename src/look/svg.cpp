#include "look/svg.hpp"

#include <algorithm>

#include "look/markup.hpp"

namespace kvant::look {

Svg::Svg(double width, double height, std::string_view attributes)
    : out_("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + coordinate(width) + " " +
           coordinate(height) + "\" width=\"" + coordinate(width) + "\" height=\"" +
           coordinate(height) + "\" font-family=\"DejaVu Sans, Verdana, sans-serif\"" +
           std::string(attributes) + ">\n" +
           "<style>.m{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px}"
           ".n{font-size:10.5px;fill:#374151}.a{font-size:10px;fill:#6b7280}"
           ".h{font-size:12px;font-weight:bold;fill:#111827}</style>\n" +
           "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n") {}

std::string attribute(std::string_view name, double value) {
  return " " + std::string(name) + "=\"" + coordinate(value) + "\"";
}

void Svg::text(double x, double y, std::string_view cls, std::string_view content,
               std::string_view extra) {
  out_ += "<text" + attribute("x", x) + attribute("y", y) + " class=\"" + std::string(cls) + "\"" +
          std::string(extra) + ">" + escape_markup(content) + "</text>\n";
}

void Svg::bar(double x, double y, double width, double height, std::string_view fill,
              std::string_view extra) {
  out_ += "<rect" + attribute("x", x) + attribute("y", y) +
          attribute("width", std::max(width, 0.5)) + attribute("height", height) + " fill=\"" +
          std::string(fill) + "\"" + std::string(extra) + "/>\n";
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view style) {
  out_ += "<line" + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) +
          attribute("y2", y2) + " " + std::string(style) + "/>\n";
}

void Svg::open_group(std::string_view title, std::string_view attributes) {
  out_ += "<g" + std::string(attributes) + "><title>" + escape_markup(title) + "</title>\n";
}

}  // namespace kvant::look
