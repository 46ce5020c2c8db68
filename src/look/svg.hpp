#pragma once

// An SVG picture as it is drawn: text is escaped, numbers do not depend on the locale.

#include <string>
#include <string_view>
#include <utility>

namespace kvant::look {

class Svg {
 public:
  /// An opening tag with a white ground and the classes m (monospace), n (text), a (axis), h
  /// (heading).
  /// @param attributes  further ones of the tag, with a blank before them
  Svg(double width, double height, std::string_view attributes = {});

  /// @param extra attributes, with a blank before them
  void text(double x, double y, std::string_view cls, std::string_view content,
            std::string_view extra = {});
  /// At least half a unit wide.
  /// @param extra as text()
  void bar(double x, double y, double width, double height, std::string_view fill,
           std::string_view extra = {});
  /// @param style attributes
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  /// What follows, up to close_group(), shows `title` under the pointer.
  void open_group(std::string_view title, std::string_view attributes = {});
  void close_group() { out_ += "</g>\n"; }
  /// Markup as it is.
  void add(std::string_view markup) { out_ += markup; }
  [[nodiscard]] std::string finish() { return std::move(out_) + "</svg>\n"; }

 private:
  std::string out_;
};

/// NAME="value" with a blank before it.
[[nodiscard]] std::string attribute(std::string_view name, double value);

}  // namespace kvant::look
