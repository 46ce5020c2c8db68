#pragma once

/// @file
/// WeightScheme: what becomes of a linear layer's weight when a checkpoint is converted.

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

/// A format that the weight is stored in, or none: as it is. The schemes int8 and llm_int8 store
/// the same bytes; llm_int8 says that outlier features are computed in floating point at run time.
struct WeightScheme {
  std::optional<WeightFormat> format = {};  ///< nothing: as it is stored
  bool outliers = false;                    ///< LLM.int8(): outlier features at run time

  constexpr WeightScheme() = default;
  constexpr WeightScheme(WeightFormat weight_format, bool with_outliers = false)
      : format(weight_format), outliers(with_outliers) {}

  /// Whether weights become codes with scales.
  [[nodiscard]] constexpr bool quantizes() const noexcept {
    return format && !describe(*format).is_float();
  }
  constexpr auto operator<=>(const WeightScheme&) const = default;

  static const WeightScheme keep;      ///< as it is stored
  static const WeightScheme llm_int8;  ///< bitsandbytes' 8-bit form, outlier features in float
  static const WeightScheme int8;      ///< the same with llm_int8_threshold 0: no outlier features
  static const WeightScheme fp16;
  static const WeightScheme bf16;
  static const WeightScheme fp32;
};

inline constexpr WeightScheme WeightScheme::keep{};
inline constexpr WeightScheme WeightScheme::llm_int8{WeightFormat::int8_row, true};
inline constexpr WeightScheme WeightScheme::int8{WeightFormat::int8_row};
inline constexpr WeightScheme WeightScheme::fp16{WeightFormat::float16};
inline constexpr WeightScheme WeightScheme::bf16{WeightFormat::bfloat16};
inline constexpr WeightScheme WeightScheme::fp32{WeightFormat::float32};

/// "keep", "llm-int8", or the name of the format: "int8", "fp16", ...
[[nodiscard]] KVANT_API std::string_view to_string(WeightScheme scheme) noexcept;
/// All that checkpoints can be written in, without `keep`: llm_int8, the other quantized formats,
/// the floating ones.
[[nodiscard]] KVANT_API const std::vector<WeightScheme>& weight_schemes();
/// One of these, or `keep`, by its name.
[[nodiscard]] KVANT_API std::optional<WeightScheme> weight_scheme_from_name(std::string_view name);
/// "llm-int8, int8, fp16, bf16, fp32", for messages.
[[nodiscard]] KVANT_API std::string weight_scheme_names();

}  // namespace kvant::io
