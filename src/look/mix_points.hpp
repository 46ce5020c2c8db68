#pragma once

// What the text, the picture and the page of a MixReport share.

#include <string>
#include <string_view>
#include <vector>

#include "kvant/look/mix_report.hpp"

namespace kvant::look {

/// "uniform", "mix", "chosen".
[[nodiscard]] std::string_view kind_of(const MixPoint& point);
/// From small to large.
[[nodiscard]] std::vector<MixPoint> by_size(const MixReport& report);
/// "-": it was not measured.
[[nodiscard]] std::string measured_text(const MixPoint& point);
/// Lines that say how the report came about.
[[nodiscard]] std::vector<std::string> made_by(const MixReport& report);
/// Of a weight of the layer.
[[nodiscard]] inline double bits_of(const MixReportLayer& layer) {
  return 8 * static_cast<double>(layer.bytes) /
         (static_cast<double>(layer.outputs) * static_cast<double>(layer.inputs));
}

}  // namespace kvant::look
