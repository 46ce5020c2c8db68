#pragma once

/// @file
/// Activations quantized by scales that were measured beforehand
/// (ActivationOptions::static_params): what is asked of the parameters, and what they make of a
/// product of integers.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "kvant/activation_options.hpp"
#include "kvant/config.hpp"
#include "kvant/core/block_params.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/error.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::detail {

/// What activations become: int8 (the codes of unsigned types are shifted), or 8-bit floats.
inline DType activation_type(const ActivationOptions& options) noexcept {
  if (options.static_params == nullptr) return options.activation_type;
  return options.static_params->scheme.dtype == DType::float8_e4m3fn ? DType::float8_e4m3fn
                                                                     : DType::int8;
}

/// What every product asks of them.
/// @param k  input features
/// @throws Error unsupported, invalid_argument, shape_mismatch
inline void check_static_params(const char* who, const QuantParams& params, std::int64_t k) {
  const std::string name(who);
  const QuantScheme& scheme = params.scheme;
  check_params(params, 1, k);
  if (params.block.rows != 0) {
    fail(ErrorCode::unsupported,
         name + ": static scales in blocks of " + shape_text(params.block.rows, params.block.cols) +
             " differ between rows; per_tensor or BlockShape{0, features} is wanted");
  }
  if (scheme.dtype != DType::int8 && scheme.dtype != DType::uint8 &&
      scheme.dtype != DType::float8_e4m3fn) {
    fail(ErrorCode::unsupported, name + ": static codes of type " +
                                     std::string(to_string(scheme.dtype)) +
                                     "; int8, uint8 and float8_e4m3fn are possible");
  }
  if (!params.shift.empty() || params.arithmetic != DType::float32) {
    fail(ErrorCode::unsupported, name + ": static scales with float shifts or rounding to " +
                                     std::string(to_string(params.arithmetic)) +
                                     " are not possible; choose a scheme with zero points");
  }
  const bool has_zeros = std::any_of(params.zero_point.begin(), params.zero_point.end(),
                                     [](std::int32_t zero) { return zero != 0; });
  const RoundOrder order = params.order();
  if (has_zeros && order != RoundOrder::kvant && order != RoundOrder::divide) {
    fail(ErrorCode::unsupported,
         name + ": the scheme " + std::string(scheme.name) +
             " rounds behind its zero points, as torch does; static activations want "
             "scheme.with_order(RoundOrder::kvant)");
  }
}

/// Static parameters in a product of int8: codes are those of int8 (unsigned ones less 128).
class StaticActivations {
 public:
  /// Checked parameters, which must outlive this object. @param k  > 0
  StaticActivations(const QuantParams& params, std::int64_t k)
      : params_(params),
        block_(params.block.cols == 0 ? k : std::min(params.block.cols, k)),
        scale_(*std::max_element(params.scale.begin(), params.scale.end())),
        shift_(params.scheme.dtype == DType::uint8 ? 128 : 0) {}

  /// What sums are multiplied by: the largest scale.
  [[nodiscard]] float scale() const noexcept { return scale_; }
  /// What the weights of a feature are multiplied by before they are quantized: its scale relative
  /// to the largest.
  [[nodiscard]] float fold(std::int64_t feature) const noexcept {
    return params_.scale[block(feature)] / scale_;
  }
  /// Some fold is not 1.
  [[nodiscard]] bool folds() const noexcept {
    return std::any_of(params_.scale.begin(), params_.scale.end(),
                       [this](float scale) { return scale != scale_; });
  }
  /// The code of 0.
  [[nodiscard]] std::int32_t zero(std::int64_t feature) const noexcept {
    return (params_.zero_point.empty() ? 0 : params_.zero_point[block(feature)]) - shift_;
  }
  [[nodiscard]] bool has_zeros() const noexcept {
    return shift_ != 0 || std::any_of(params_.zero_point.begin(), params_.zero_point.end(),
                                      [](std::int32_t zero) { return zero != 0; });
  }
  /// Codes of unsigned types become int8 by this.
  [[nodiscard]] std::int32_t shift() const noexcept { return shift_; }

  /// Sums of (code - zero) * weight must fit int32 for every code and weight.
  /// @throws Error out_of_range
  void check_sums(const char* who, std::int64_t k) const {
    std::int64_t reach = 128;
    for (std::int64_t c = 0; c < k; c += block_) {
      const std::int64_t z = zero(c);
      reach = std::max({reach, z + 128, 127 - z});
    }
    const std::int64_t most = std::numeric_limits<std::int32_t>::max() / (reach * 128);
    if (k <= most) return;
    fail(ErrorCode::out_of_range, std::string(who) + ": " + std::to_string(k) +
                                      " inputs with codes up to " + std::to_string(reach) +
                                      " from the zero point; sums in int32 are exact up to " +
                                      std::to_string(most));
  }

 private:
  [[nodiscard]] std::size_t block(std::int64_t feature) const noexcept {
    return static_cast<std::size_t>(feature / block_);
  }

  const QuantParams& params_;
  std::int64_t block_;
  float scale_;
  std::int32_t shift_;
};

}  // namespace kvant::detail
