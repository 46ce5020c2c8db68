#include "look/activations_svg.hpp"

#include <algorithm>
#include <cmath>

#include "look/activations_text.hpp"
#include "look/markup.hpp"
#include "look/svg.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

// Told apart without red and green, dark enough for white paper.
constexpr const char* kBlue = "#1f6fb4";
constexpr const char* kOrange = "#e08a1e";
constexpr const char* kGrey = "#cbd0d8";
constexpr const char* kGrid = "stroke=\"#e5e7eb\"";
constexpr const char* kThreshold = "stroke=\"#7b3fa0\" stroke-dasharray=\"4 3\"";
constexpr const char* kMiddle = " text-anchor=\"middle\"";

/// A logarithmic axis, from `left` on `width` wide.
struct LogAxis {
  double left;
  double width;
  double low;  ///< log10 of its ends
  double high;

  [[nodiscard]] double at(double value) const {
    const double log = value > 0 ? std::log10(value) : low;
    return left + width * std::clamp((log - low) / (high - low), 0.0, 1.0);
  }
};

std::string label_of(const ActivationInput& input, std::size_t width) {
  return shorten_middle(shown_name(input.layers.front()), width);
}

class Overview {
 public:
  explicit Overview(const ActivationReport& report) : report_(report) {
    double low = std::log10(report.threshold);
    double high = low;
    std::size_t label = 12;
    for (const ActivationInput& input : report.inputs) {
      label = std::max(label, display_width(label_of(input, kLongestLabel)));
      if (input.median > 0) low = std::min(low, std::log10(input.median));
      if (input.largest > 0) high = std::max(high, std::log10(input.largest));
    }
    const double left = kMargin + static_cast<double>(label) * kCharacter + 14;
    low = std::max(std::floor(low), std::ceil(high) - 12);
    axis_ = {left, kPanel, low, std::max(std::ceil(high), low + 1)};
    take_x_ = left + kPanel + 20;
    bottom_ = kTop + static_cast<double>(report.inputs.size()) * kRow;
    svg_ = Svg(take_x_ + 2 * kTake, bottom_ + 30, " id=\"overview\"");
  }

  [[nodiscard]] std::string draw() {
    svg_.text(axis_.left, 20, "h", "magnitude of what the layers read");
    legend();
    svg_.text(take_x_, kTop - 22, "h", "8 bits, dB");
    svg_.text(take_x_ + kTake, kTop - 22, "h", "4 bits, dB");
    for (double decade = axis_.low; decade <= axis_.high; ++decade) {
      const double value = std::pow(10, decade);
      svg_.line(axis_.at(value), kTop - 3, axis_.at(value), bottom_ + 3, kGrid);
      svg_.text(axis_.at(value), kTop - 7, "a", number_text(value, 6), kMiddle);
    }
    const double x = axis_.at(report_.threshold);
    svg_.line(x, kTop - 3, x, bottom_ + 6, kThreshold);
    svg_.text(x, bottom_ + 20, "n", "outliers from " + number_text(report_.threshold, 4), kMiddle);
    double y = kTop;
    for (const ActivationInput& input : report_.inputs) {
      row(input, y);
      y += kRow;
    }
    return svg_.finish();
  }

 private:
  static constexpr double kRow = 18;
  static constexpr double kTop = 78;
  static constexpr double kMargin = 16;
  static constexpr double kCharacter = 6.65;  // of the 11 px monospace labels
  static constexpr std::size_t kLongestLabel = 44;
  static constexpr double kPanel = 380;
  static constexpr double kTake = 150;

  void marks(double y, double median, double p99, double p999, double largest, const char* color) {
    svg_.line(axis_.at(median), y, axis_.at(largest), y,
              "stroke=\"" + std::string(color) + "\" stroke-opacity=\"0.35\" stroke-width=\"2\"");
    svg_.line(axis_.at(p99), y, axis_.at(p999), y,
              "stroke=\"" + std::string(color) + "\" stroke-width=\"6\"");
    svg_.bar(axis_.at(median) - 1, y - 5, 2, 10, "#111827");
    svg_.add("<circle" + attribute("cx", axis_.at(largest)) + attribute("cy", y) +
             " r=\"4\" fill=\"" + color + "\"/>\n");
  }

  void legend() {
    const double y = 37;
    const LogAxis whole = axis_;
    axis_ = {axis_.left, 90, 0, 3};
    marks(y, 1, 20, 150, 1000, kBlue);
    axis_ = whole;
    svg_.text(axis_.left + 102, y + 4, "n", "median, 99 % to 99.9 %, largest");
  }

  void row(const ActivationInput& input, double y) {
    const double middle = y + kRow / 2;
    svg_.open_group(shown_name(input.layers.front()) + ": median " + number_text(input.median, 3) +
                        ", 99 % " + number_text(input.p99, 3) + ", 99.9 % " +
                        number_text(input.p999, 3) + ", largest " + number_text(input.largest, 3),
                    " class=\"input\"");
    svg_.text(kMargin, middle + 4, "m", label_of(input, kLongestLabel));
    if (input.tokens > 0) {
      marks(middle, input.median, input.p99, input.p999, input.largest,
            input.outlier_features > 0 ? kOrange : kBlue);
      svg_.text(take_x_, middle + 4, "n", plain_text(input.int8) + ", " + gain_text(input.int8));
      svg_.text(take_x_ + kTake, middle + 4, "n",
                plain_text(input.int4) + ", " + gain_text(input.int4));
    } else {
      svg_.text(axis_.left, middle + 4, "n", input.note);
    }
    svg_.close_group();
  }

  const ActivationReport& report_;
  LogAxis axis_{};
  double take_x_ = 0;
  double bottom_ = 0;
  Svg svg_{1, 1};
};

}  // namespace

std::string overview_svg(const ActivationReport& report) {
  return Overview(report).draw();
}

std::string histogram_svg(const ActivationInput& input, double threshold) {
  constexpr double kLeft = 54, kTop = 12, kWidth = 290, kHeight = 120;
  Svg svg(kLeft + kWidth + 14, kTop + kHeight + 34, " class=\"histogram\"");
  double total = 0;
  for (const MagnitudeBin& bin : input.histogram) total += static_cast<double>(bin.count);
  total += static_cast<double>(input.zeros);
  const double decades = std::max(1.0, std::ceil(std::log10(std::max(total, 1.0))));
  const double base = kTop + kHeight;
  const auto height = [&](double share) { return kHeight * (1 + std::log10(share) / decades); };
  for (double decade = 0; decade <= decades; decade += decades > 5 ? 2 : 1) {
    const double y = base - height(std::pow(10, -decade));
    svg.line(kLeft, y, kLeft + kWidth, y, kGrid);
    svg.text(kLeft - 5, y + 3.5, "a", number_text(100 * std::pow(10, -decade), 3) + "%",
             " text-anchor=\"end\"");
  }
  const double step =
      kWidth / static_cast<double>(std::max<std::size_t>(1, input.histogram.size()));
  double x = kLeft;
  for (std::size_t i = 0; i < input.histogram.size(); ++i, x += step) {
    const MagnitudeBin& bin = input.histogram[i];
    if (i % 4 == 0) svg.text(x, base + 13, "a", number_text(bin.least, 2), kMiddle);
    if (bin.count == 0) continue;
    const double tall = std::max(1.5, height(static_cast<double>(bin.count) / total));
    svg.open_group(std::to_string(bin.count) + " from " + number_text(bin.least, 3) + " to " +
                   number_text(bin.largest, 3));
    svg.bar(x + 0.5, base - tall, step - 1, tall, bin.least >= threshold ? kOrange : kBlue,
            " class=\"bin\" data-count=\"" + std::to_string(bin.count) + "\"");
    svg.close_group();
  }
  if (!input.histogram.empty() && input.histogram.front().least > 0) {
    const double at = kLeft + step * std::log2(threshold / input.histogram.front().least);
    if (at >= kLeft && at <= kLeft + kWidth) svg.line(at, kTop, at, base, kThreshold);
  }
  svg.text(kLeft + kWidth / 2, base + 28, "n",
           "magnitude" + (input.zeros > 0 ? "; " + std::to_string(input.zeros) + " are less or 0"
                                          : std::string()),
           kMiddle);
  return svg.finish();
}

std::string outliers_svg(const ActivationInput& input) {
  constexpr double kRow = 17, kLeft = 50, kWidth = 120;
  constexpr std::size_t kShown = 8;
  const std::size_t count = std::min(kShown, input.outliers.size());
  Svg svg(358, 20 + kRow * static_cast<double>(count), " class=\"outliers\"");
  svg.text(0, 12, "h",
           "outlier features: " + std::to_string(input.outlier_features) + ", in " +
               share_text(input.outlier_tokens, input.tokens) + " of the tokens");
  if (count == 0) return svg.finish();
  const double longest = input.outliers.front().largest;
  double y = 20;
  for (std::size_t i = 0; i < count; ++i, y += kRow) {
    const OutlierFeature& outlier = input.outliers[i];
    svg.text(kLeft - 6, y + 12, "m", std::to_string(outlier.feature), " text-anchor=\"end\"");
    svg.bar(kLeft, y + 2, kWidth * outlier.largest / longest, kRow - 5, kGrey,
            " class=\"outlier\" data-feature=\"" + std::to_string(outlier.feature) + "\"");
    svg.bar(kLeft, y + 4, kWidth * outlier.mean / longest, kRow - 9, kOrange);
    svg.text(kLeft + kWidth + 6, y + 12, "n",
             number_text(outlier.largest, 3) + ", mean " + number_text(outlier.mean, 3) + ", " +
                 std::to_string(outlier.tokens) + " tokens");
  }
  return svg.finish();
}

std::string methods_svg(const ActivationInput& input) {
  constexpr double kRow = 17, kLeft = 84, kWidth = 200;
  const std::size_t count = input.int8.size() + input.int4.size();
  Svg svg(358, 26 + kRow * static_cast<double>(count), " class=\"methods\"");
  svg.text(0, 12, "h", "outputs' SQNR, dB (filled: to take)");
  double longest = 1;
  for (const auto* methods : {&input.int8, &input.int4}) {
    for (const MethodEstimate& estimate : *methods) {
      if (estimate.sqnr_db > longest) longest = estimate.sqnr_db;
    }
  }
  double y = 20;
  for (const auto* methods : {&input.int8, &input.int4}) {
    const std::size_t chosen = choose_method(*methods);
    for (std::size_t i = 0; i < methods->size(); ++i, y += kRow) {
      const MethodEstimate& estimate = (*methods)[i];
      const bool known = !std::isnan(estimate.sqnr_db);
      const double width = known ? kWidth * std::max(0.0, estimate.sqnr_db) / longest : 0.0;
      svg.text(kLeft - 6, y + 12, "m", estimate.method, " text-anchor=\"end\"");
      if (known) {
        svg.bar(kLeft, y + 2, width, kRow - 5, i == chosen ? kBlue : kGrey,
                " class=\"" + std::string(i == chosen ? "method taken" : "method") +
                    "\" data-method=\"" + escape_markup(estimate.method) + "\"");
      }
      svg.text(kLeft + width + 6, y + 12, "n", known ? decibel_text(estimate.sqnr_db) : "-");
    }
    y += 6;
  }
  return svg.finish();
}

}  // namespace kvant::look
