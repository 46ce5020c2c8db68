#pragma once

/// @file
/// GroupCodes: weights as codes of 2, 3, 4 or 8 bits with a scale and a zero point for each group
/// of an output's inputs, which is what the methods of this folder choose.

#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::methods {

/// What the codes are to be.
struct GroupScheme {
  int bits = 4;                       ///< 2, 3, 4 or 8
  std::int64_t group = 128;           ///< inputs that share a scale; 0: all of an output
  bool symmetric = false;             ///< the zero point is the middle code
  DType scale_type = DType::float16;  ///< scales are rounded to it before they are used

  [[nodiscard]] constexpr int highest() const noexcept { return (1 << bits) - 1; }
  /// Groups of an output with so many inputs.
  [[nodiscard]] constexpr std::int64_t groups(std::int64_t inputs) const noexcept {
    return group == 0 ? (inputs > 0 ? 1 : 0) : (inputs + group - 1) / group;
  }
};

/// Weights [outputs, inputs]: (code - zero point of its group) * scale of its group.
struct GroupCodes {
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t groups = 0;
  std::vector<std::uint8_t> codes;        ///< [outputs, inputs]
  std::vector<float> scales;              ///< [outputs, groups]
  std::vector<std::uint8_t> zero_points;  ///< [outputs, groups]
  std::vector<std::int32_t> group_of;     ///< of each input

  /// @param w [outputs, inputs]
  KVANT_API void dequantize(MatrixView<float> w) const;
};

/// How the range of a group becomes a scale.
enum class RangeSearch : std::uint8_t {
  none,  ///< from the smallest to the largest weight: rounding to nearest
  mse,   ///< ranges shrunk in 80 steps of a hundredth, the one with the least sum of |error|^2.4
         ///< (GPTQ's "mse")
  hqq,   ///< the zero point moved until the error's p = 0.7 norm stops falling (Half-Quadratic
         ///< Quantization). Zero points are codes here, and rounding them loses most of what moving
         ///< them gains; hqq_params (hqq.hpp) keeps them real
};

/// The nearest codes without a look at activations, group by group of neighbours.
/// The affine range includes 0 and the symmetric one is absmax / (2^bits - 1) * 2 wide, as in
/// src/formats/int_groups.cpp.
/// @param w [outputs, inputs]
/// @throws Error invalid_argument (bits, group), not_finite
[[nodiscard]] KVANT_API GroupCodes round_to_nearest(MatrixView<const float> w,
                                                    const GroupScheme& scheme,
                                                    RangeSearch search = RangeSearch::none);

}  // namespace kvant::methods
