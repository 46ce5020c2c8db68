#pragma once

/// @file
/// A mix of formats as people look at it: perplexity against bytes, the points that were to choose
/// from, and what each layer got.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::look {

/// What a point of a MixReport is.
enum class MixPointKind : std::uint8_t {
  uniform,  ///< all layers in one format
  mix,      ///< the best mix at some size
  chosen,   ///< the best mix under the budget
};

/// A model of some size.
struct MixPoint {
  std::string label;  ///< "int4:64", "mix at 4.5 bits"
  MixPointKind kind = MixPointKind::mix;
  std::uint64_t bytes = 0;              ///< of the whole model
  double bits = 0;                      ///< a weight of the layers, scales included
  double predicted = 0;                 ///< perplexity, by the sum of sensitivities
  std::optional<double> measured = {};  ///< perplexity
};

/// What a layer got.
struct MixReportLayer {
  std::string name;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::string format;
  std::uint64_t bytes = 0;
  double output_error = 0;  ///< relative
  double loss = 0;          ///< nats a token, its sensitivity in this format
};

/// A choice of formats, with everything that it was made by.
struct MixReport {
  std::string model;
  std::string method;            ///< of the sensitivities, in words
  std::string arithmetic;        ///< "exact" or "int8"
  std::string budget;            ///< in words
  std::string measured_on;       ///< the text of the sensitivities, in words
  std::string evaluated_on;      ///< the text of the perplexities
  std::int64_t tokens = 0;       ///< that the sensitivities are means over
  std::int64_t runs = 0;         ///< of the model for them
  double float_perplexity = 0;   ///< on evaluated_on
  double gap = 0;                ///< how far the mix may be above the optimum, a share
  std::vector<MixPoint> points;  ///< in any order; one is `chosen`
  std::vector<MixReportLayer> layers;

  /// The point of the mix; null: there is none.
  [[nodiscard]] const MixPoint* chosen() const noexcept;
};

/// Tables of the points, by size, and of the layers, and what they were made by.
[[nodiscard]] KVANT_API std::string to_text(const MixReport& report);
/// One JSON object; perplexities that are no number are strings.
[[nodiscard]] KVANT_API std::string to_json(const MixReport& report);
/// Perplexity against bytes, both logarithmic: predicted points hollow, measured ones filled, and a
/// line through the predicted mixes. Points that are much worse than the chosen one, and would
/// leave no room for the others, are arrows at the upper edge.
[[nodiscard]] KVANT_API std::string to_svg(const MixReport& report);
/// One page that needs nothing else: figures, the picture, both tables.
[[nodiscard]] KVANT_API std::string to_html(const MixReport& report);

}  // namespace kvant::look
