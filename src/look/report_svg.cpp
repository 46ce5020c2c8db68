// A CheckpointReport as a picture: one line per linear layer, its error (SQNR, longer is better) on
// the left and its size before and after on the right.
//
//   name                        SQNR                         bytes
//   h.0.attn.c_attn   int8     |--------------o      44.1   |====--------- 12 KB of 49 KB
//
// SQNR is drawn as points, whose axis need not begin at 0: layers differ by few decibels.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kvant/look/report.hpp"
#include "look/markup.hpp"
#include "look/svg.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

/// One for each format, in the order of its table, again from the start where there are more. Dark
/// enough for white paper, told apart without red and green.
constexpr std::array<std::string_view, 10> kColors{"#6b7280", "#e08a1e", "#b5651d", "#1f6fb4",
                                                   "#0f8b8d", "#7b3fa0", "#c2478f", "#4d5b9e",
                                                   "#8a6d1f", "#2f4858"};

std::string_view color_of(const io::StoredLayer& layer) {
  if (!layer.format) return "#374151";
  return kColors[static_cast<std::size_t>(*layer.format) % kColors.size()];
}

class Chart {
  static constexpr double kRow = 18;
  static constexpr double kBar = 11;
  static constexpr double kTop = 104;  // where the first row begins
  static constexpr double kMargin = 20;
  static constexpr double kCharacter = 6.65;  // of the 11 px monospace labels
  static constexpr std::size_t kLongestLabel = 44;
  static constexpr double kSchemeWidth = 46;
  static constexpr double kPanel = 270;
  static constexpr double kGap = 66;  // for the figures at the ends of the bars
  static constexpr double kLastGap = 120;

 public:
  explicit Chart(const CheckpointReport& report) : report_(report) {
    std::size_t label = 12;
    for (const LayerReport& layer : report.layers) {
      label = std::max(label, display_width(label_of(layer)));
      if (std::isfinite(layer.error.sqnr_db)) {
        high_ = std::max(high_, layer.error.sqnr_db);
        low_ = std::min(low_, layer.error.sqnr_db);
      }
      bytes_ = std::max({bytes_, static_cast<double>(layer.bytes_before),
                         static_cast<double>(layer.bytes_after)});
    }
    low_ = std::isfinite(low_) ? std::floor((low_ - 2) / 5) * 5 : 0;
    // Four equal steps of a whole number of decibels.
    high_ = low_ + std::max(8.0, std::ceil((high_ - low_) / 4) * 4);
    bytes_ = round_up_nicely(bytes_);
    scheme_x_ = kMargin + static_cast<double>(label) * kCharacter + 12;
    error_x_ = scheme_x_ + kSchemeWidth;
    size_x_ = error_x_ + kPanel + kGap;
    width_ = size_x_ + kPanel + kLastGap;
    bottom_ = kTop + static_cast<double>(report.layers.size()) * kRow;
  }

  [[nodiscard]] std::string draw() {
    const double height = bottom_ + 34;
    svg_ = Svg(width_, height);
    heading();
    axis(error_x_, low_, high_, [](double value) { return number_text(value, 4); });
    axis(size_x_, 0, bytes_,
         [](double value) { return bytes_text(static_cast<std::uint64_t>(value)); });
    total_line();
    double y = kTop;
    for (const LayerReport& layer : report_.layers) {
      row(layer, y);
      y += kRow;
    }
    return svg_.finish();
  }

 private:
  static std::string label_of(const LayerReport& layer) {
    return shorten_middle(shown_name(layer.before.name), kLongestLabel);
  }

  void heading() {
    svg_.text(kMargin, 28, "h", "Error and size of the linear layers", " style=\"font-size:16px\"");
    const std::string files =
        shorten_middle(report_.model, 60) + " -> " + shorten_middle(report_.quantized, 60);
    svg_.text(kMargin, 47, "n", files);
    svg_.text(kMargin, 63, "n",
              "whole model " + bytes_text(report_.bytes_before) + " -> " +
                  bytes_text(report_.bytes_after) + ", total SQNR " +
                  decibel_text(report_.total.sqnr_db) + (finite(report_.total) ? " dB" : ""));
    svg_.text(error_x_, kTop - 22, "h", "SQNR of the weights, dB (right is better)");
    svg_.text(size_x_, kTop - 22, "h", "bytes after (grey: before)");
  }

  static bool finite(const ErrorMetrics& error) { return std::isfinite(error.sqnr_db); }

  template <class Label>
  void axis(double x, double low, double high, Label&& label) {
    constexpr int kSteps = 4;
    for (int i = 0; i <= kSteps; ++i) {
      const double at = x + kPanel * i / kSteps;
      svg_.line(at, kTop - 3, at, bottom_ + 3, "stroke=\"#e5e7eb\"");
      svg_.text(at, kTop - 7, "a", label(low + (high - low) * i / kSteps),
                " text-anchor=\"middle\"");
    }
  }

  void row(const LayerReport& layer, double y) {
    const double base = y + kRow / 2 + 4;
    const double bar_y = y + (kRow - kBar) / 2;
    const std::string_view scheme = layer.after.scheme();
    svg_.open_group(shown_name(layer.before.name) + ": " + to_string(layer.error));
    svg_.text(kMargin, base, "m", label_of(layer));
    svg_.text(scheme_x_, base, "m", scheme.substr(0, 6),
              " fill=\"" + std::string(color_of(layer.after)) + "\"");
    const double db = layer.error.sqnr_db;
    if (!std::isnan(db)) {  // an exact layer is at the right end, hollow
      const double x = error_x(db);
      const std::string color(color_of(layer.after));
      svg_.line(error_x_, y + kRow / 2, x, y + kRow / 2,
                "stroke=\"" + color + "\" stroke-opacity=\"0.35\" stroke-width=\"2\"");
      svg_.add("<circle" + attribute("cx", x) + attribute("cy", y + kRow / 2) +
               " r=\"4.5\" stroke=\"" + color + "\" stroke-width=\"1.5\" fill=\"" +
               (std::isinf(db) ? "#ffffff" : color) + "\"/>\n");
    }
    svg_.text(error_x_ + kPanel + 12, base, "n", decibel_text(db));
    const double before = kPanel * static_cast<double>(layer.bytes_before) / bytes_;
    const double after = kPanel * static_cast<double>(layer.bytes_after) / bytes_;
    svg_.bar(size_x_, bar_y, before, kBar, "#cbd0d8");
    svg_.bar(size_x_, bar_y + 2, after, kBar - 4, color_of(layer.after));
    svg_.text(size_x_ + std::max(before, after) + 5, base, "n",
              bytes_text(layer.bytes_after) + " of " + bytes_text(layer.bytes_before));
    svg_.close_group();
  }

  void total_line() {
    if (!finite(report_.total)) return;
    const double x = error_x(report_.total.sqnr_db);
    svg_.line(x, kTop - 3, x, bottom_ + 8, "stroke=\"#111827\" stroke-dasharray=\"3 3\"");
    svg_.text(x, bottom_ + 21, "n", "total " + decibel_text(report_.total.sqnr_db) + " dB",
              " text-anchor=\"middle\"");
  }

  [[nodiscard]] double error_x(double db) const {
    return error_x_ + kPanel * std::clamp((db - low_) / (high_ - low_), 0.0, 1.0);
  }

  const CheckpointReport& report_;
  Svg svg_{1, 1};
  double low_ = std::numeric_limits<double>::infinity();  ///< ends of the left axis, dB
  double high_ = 0;
  double bytes_ = 1;  ///< right end of the right axis
  double scheme_x_ = 0;
  double error_x_ = 0;
  double size_x_ = 0;
  double width_ = 0;
  double bottom_ = 0;
};

}  // namespace

std::string to_svg(const CheckpointReport& report) {
  return Chart(report).draw();
}

}  // namespace kvant::look
