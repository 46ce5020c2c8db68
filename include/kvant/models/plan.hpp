#pragma once

/// @file
/// What will be done with a model's weights when it is loaded: wishes and folder in, plan out.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/error.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/models/config.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::models {

/// How the linear layers of a model are held and multiplied.
enum class Scheme : std::uint8_t {
  fp32,
  bf16,
  int8_tensor,  ///< absmax of the whole tensor, weights and activations
  int8,         ///< vector-wise, no outliers
  llm_int8,     ///< vector-wise, outlier features in floating point
  int8_group,   ///< weights of format int8-group, activations in float
};

/// The format that a scheme packs weights in by Linear alone; nothing for the others.
[[nodiscard]] KVANT_API std::optional<WeightFormat> packed_format(Scheme scheme) noexcept;

/// The name on the command line, e.g. "llm-int8".
[[nodiscard]] KVANT_API std::string_view to_string(Scheme scheme) noexcept;
/// The scheme of a name; nothing for others.
[[nodiscard]] KVANT_API std::optional<Scheme> scheme_from_name(std::string_view name) noexcept;
/// All of them, from exact to small.
[[nodiscard]] KVANT_API const std::vector<Scheme>& all_schemes();

/// What the user asked for; what is not set follows from the folder.
struct Request {
  std::optional<Scheme> scheme = {};
  std::optional<Arithmetic> mode = {};
  std::optional<float> threshold = {};
  bool calibration_text = false;  ///< ids to calibrate with are given
};

/// What will be done.
struct Plan {
  Scheme scheme = Scheme::fp32;
  Arithmetic mode = Arithmetic::kvant;
  float threshold = 0;
  bool stored_int8 = false;  ///< the folder holds bitsandbytes' codes
  bool calibrate = false;    ///< find outlier columns while loading and keep their weights
};

/// A combination of wishes that makes no sense: the caller's mistake, not the folder's.
class KVANT_API RequestError : public Error {
 public:
  explicit RequestError(const std::string& message) : Error(ErrorCode::invalid_argument, message) {}
};

/// @throws RequestError
KVANT_API Plan make_plan(const Config& config, const Request& request);

}  // namespace kvant::models
