// A MixReport as a picture: perplexity against the bytes of the model, both logarithmic. Hollow is
// predicted, filled is measured; lines join the two of a point.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "look/markup.hpp"
#include "look/mix_points.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr double kWidth = 900;
constexpr double kHeight = 560;
constexpr double kLeft = 78;
constexpr double kRight = 852;
constexpr double kTop = 110;
constexpr double kBottom = 500;
constexpr double kLabelHeight = 12;
constexpr double kCharacter = 6.1;

std::string_view color_of(const MixPoint& point) {
  switch (point.kind) {
    case MixPointKind::uniform: return "#1f6fb4";
    case MixPointKind::mix: return "#b5651d";
    case MixPointKind::chosen: break;
  }
  return "#7b3fa0";
}

class Picture {
 public:
  explicit Picture(const MixReport& report) : report_(report), points_(by_size(report)) {
    if (report.float_perplexity > 0 && std::isfinite(report.float_perplexity)) {
      floats_ = report.float_perplexity;
    }
    double least = floats_;
    double chosen = floats_;
    if (const MixPoint* point = report.chosen()) {
      chosen = std::max(chosen, point->measured.value_or(point->predicted));
    }
    // What is far above the chosen one would press all others to the ground.
    const double limit = floats_ * std::max(1.6, 1 + 5 * (chosen / floats_ - 1));
    double most = std::isfinite(chosen) ? chosen : floats_;
    double smallest = std::numeric_limits<double>::infinity();
    double largest = 0;
    for (const MixPoint& point : points_) {
      for (const double value : {point.predicted, point.measured.value_or(point.predicted)}) {
        if (!(value > 0) || std::isinf(value)) continue;
        least = std::min(least, value);
        if (value <= limit) most = std::max(most, value);
      }
      smallest = std::min(smallest, static_cast<double>(point.bytes));
      largest = std::max(largest, static_cast<double>(point.bytes));
    }
    const double margin = std::max(0.02, 0.06 * std::log(most / least));
    low_ = std::log(least) - margin;
    high_ = std::log(most) + margin;
    if (points_.empty()) return;
    from_ = std::log(std::max(1.0, smallest));
    to_ = std::log(std::max(1.0, largest));
    const double room = std::max(0.05, 0.05 * (to_ - from_));
    from_ -= room;
    to_ += room;
  }

  [[nodiscard]] std::string draw() {
    out_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + coordinate(kWidth) + " " +
           coordinate(kHeight) + "\" width=\"" + coordinate(kWidth) + "\" height=\"" +
           coordinate(kHeight) + "\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n" +
           "<style>.n{font-size:11px;fill:#374151}.a{font-size:10px;fill:#6b7280}"
           ".h{font-size:16px;font-weight:bold;fill:#111827}</style>\n" +
           "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
    text(kLeft, 28, "h", "Perplexity against bytes");
    text(kLeft, 48, "n", shorten_middle(report_.model, 110));
    text(kLeft, 64, "n", shorten_middle(made_by(report_).front(), 130));
    legend();
    axes();
    float_line();
    curve();
    for (const MixPoint& point : points_) mark(point);
    for (const MixPoint& point : points_) label(point);
    return out_ + "</svg>\n";
  }

 private:
  [[nodiscard]] double x_of(double bytes) const {
    return kLeft + (kRight - kLeft) * (std::log(std::max(1.0, bytes)) - from_) / (to_ - from_);
  }
  [[nodiscard]] double y_of(double perplexity) const {
    const double share = (std::log(perplexity) - low_) / (high_ - low_);
    return kBottom - (kBottom - kTop) * std::clamp(share, 0.0, 1.0);
  }
  [[nodiscard]] bool is_above(double perplexity) const { return !(std::log(perplexity) <= high_); }

  void text(double x, double y, std::string_view cls, std::string_view content,
            std::string_view extra = "") {
    out_ += "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" class=\"" +
            std::string(cls) + "\"" + std::string(extra) + ">" + escape_markup(content) +
            "</text>\n";
  }
  void line(double x1, double y1, double x2, double y2, std::string_view style) {
    out_ += "<line x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" +
            coordinate(x2) + "\" y2=\"" + coordinate(y2) + "\" " + std::string(style) + "/>\n";
  }
  void circle(double x, double y, double radius, std::string_view color, bool filled) {
    out_ += "<circle cx=\"" + coordinate(x) + "\" cy=\"" + coordinate(y) + "\" r=\"" +
            coordinate(radius) + "\" stroke=\"" + std::string(color) +
            "\" stroke-width=\"1.5\" fill=\"" + std::string(filled ? color : "#ffffff") + "\"/>\n";
  }

  void legend() {
    double x = kLeft + 6;
    for (const MixPointKind kind :
         {MixPointKind::uniform, MixPointKind::mix, MixPointKind::chosen}) {
      MixPoint point;
      point.kind = kind;
      circle(x, 84, 4.5, color_of(point), true);
      text(x + 10, 88, "n", kind_of(point));
      x += 84;
    }
    circle(x, 84, 4.5, "#374151", false);
    text(x + 10, 88, "n", "predicted by the sum of sensitivities");
    circle(x + 250, 84, 4.5, "#374151", true);
    text(x + 260, 88, "n", "measured");
  }

  void axes() {
    constexpr int kSteps = 5;
    for (int i = 0; i <= kSteps; ++i) {
      const double part = static_cast<double>(i) / kSteps;
      const double bytes = std::exp(from_ + (to_ - from_) * part);
      line(x_of(bytes), kTop, x_of(bytes), kBottom, "stroke=\"#e5e7eb\"");
      text(x_of(bytes), kBottom + 16, "a",
           bytes_text(static_cast<std::uint64_t>(std::max(0.0, bytes))), " text-anchor=\"middle\"");
      const double perplexity = std::exp(low_ + (high_ - low_) * part);
      line(kLeft, y_of(perplexity), kRight, y_of(perplexity), "stroke=\"#e5e7eb\"");
      text(kLeft - 6, y_of(perplexity) + 4, "a", number_text(perplexity, 4),
           " text-anchor=\"end\"");
    }
    text((kLeft + kRight) / 2, kBottom + 36, "n", "bytes of the whole model",
         " text-anchor=\"middle\"");
    text(20, (kTop + kBottom) / 2, "n", "perplexity",
         " text-anchor=\"middle\" transform=\"rotate(-90 20 " + coordinate((kTop + kBottom) / 2) +
             ")\"");
  }

  void float_line() {
    const double y = y_of(floats_);
    line(kLeft, y, kRight, y, "stroke=\"#111827\" stroke-dasharray=\"4 3\"");
    text(kRight, y + 13, "n", "in floats " + number_text(report_.float_perplexity, 5),
         " text-anchor=\"end\"");
  }

  /// Through the predicted mixes.
  void curve() {
    std::string path;
    for (const MixPoint& point : points_) {
      if (point.kind == MixPointKind::uniform || is_above(point.predicted)) continue;
      path += (path.empty() ? "M" : "L") + coordinate(x_of(static_cast<double>(point.bytes))) +
              " " + coordinate(y_of(point.predicted));
    }
    if (path.empty()) return;
    out_ += "<path d=\"" + path + "\" fill=\"none\" stroke=\"#b5651d\" stroke-opacity=\"0.5\"/>\n";
  }

  void mark(const MixPoint& point) {
    const double x = x_of(static_cast<double>(point.bytes));
    const std::string_view color = color_of(point);
    const double radius = point.kind == MixPointKind::chosen ? 7 : 4.5;
    out_ += "<g><title>" + escape_markup(point.label) + ", " + bytes_text(point.bytes) +
            ": predicted " + number_text(point.predicted, 6) + ", measured " +
            measured_text(point) + "</title>\n";
    if (is_above(point.measured.value_or(point.predicted))) {
      out_ += "<path d=\"M" + coordinate(x - 5) + " " + coordinate(kTop + 8) + "L" + coordinate(x) +
              " " + coordinate(kTop) + "L" + coordinate(x + 5) + " " + coordinate(kTop + 8) +
              "Z\" fill=\"" + std::string(color) + "\"/>\n";
    } else {
      if (point.measured && !is_above(point.predicted)) {
        line(x, y_of(point.predicted), x, y_of(*point.measured),
             "stroke=\"" + std::string(color) + "\" stroke-opacity=\"0.4\"");
      }
      if (!is_above(point.predicted)) circle(x, y_of(point.predicted), radius, color, false);
      if (point.measured) circle(x, y_of(*point.measured), radius, color, true);
    }
    out_ += "</g>\n";
  }

  /// Beside the point, lower where another label is there already.
  void label(const MixPoint& point) {
    if (point.kind == MixPointKind::mix) return;
    const double value = point.measured.value_or(point.predicted);
    std::string words = point.label;
    if (is_above(value)) words += " " + number_text(value, 4);
    const double width = kCharacter * static_cast<double>(display_width(words));
    const double beside = x_of(static_cast<double>(point.bytes)) + 9;
    const double x = beside + width > kWidth ? beside - 18 - width : beside;
    double y = (is_above(value) ? kTop + 8 : y_of(value)) + 4;
    const auto taken = [&](const std::array<double, 3>& box) {
      return x < box[0] + box[2] && box[0] < x + width && std::abs(y - box[1]) < kLabelHeight;
    };
    while (std::any_of(labels_.begin(), labels_.end(), taken)) y += kLabelHeight / 2;
    labels_.push_back({x, y, width});
    text(x, y, "n", words, " style=\"fill:" + std::string(color_of(point)) + "\"");
  }

  const MixReport& report_;
  std::vector<MixPoint> points_;
  std::vector<std::array<double, 3>> labels_;  ///< x, y, width
  std::string out_;
  double floats_ = 1;  ///< perplexity
  double low_ = 0;     ///< of the axis, logarithms of perplexity
  double high_ = 1;
  double from_ = 0;  ///< logarithms of bytes
  double to_ = 1;
};

}  // namespace

std::string to_svg(const MixReport& report) {
  return Picture(report).draw();
}

}  // namespace kvant::look
