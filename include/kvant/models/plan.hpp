#pragma once

/// @file
/// What will be done with a model's weights when it is loaded: wishes and folder in, plan out.

#include <compare>
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

/// How the linear layers of a model are held and multiplied. What has a name of its own below goes
/// through the model's own arithmetic or LLM.int8(); every other weight format of the library is a
/// scheme too, by the format's name.
struct Scheme {
  enum class Kind : std::uint8_t {
    fp32,
    bf16,         ///< every value between layers is rounded too, as torch does
    int8_tensor,  ///< absmax of the whole tensor, weights and activations
    int8,         ///< vector-wise, no outliers
    llm_int8,     ///< vector-wise, outlier features in floating point
    packed,       ///< weights in `format`, multiplied as Linear does
    stored,       ///< a quantized folder's layers as they are: the stored codes, packed
  };
  Kind kind = Kind::fp32;
  WeightFormat format = WeightFormat::float32;  ///< of packed weights

  constexpr Scheme() = default;
  constexpr Scheme(Kind k) : kind(k) {}  // NOLINT: implicit on purpose
  constexpr explicit Scheme(WeightFormat f) : kind(Kind::packed), format(f) {}
  constexpr auto operator<=>(const Scheme&) const = default;

  static const Scheme fp32;
  static const Scheme bf16;
  static const Scheme int8_tensor;
  static const Scheme int8;
  static const Scheme llm_int8;
  static const Scheme int8_group;
  static const Scheme stored;
};

inline constexpr Scheme Scheme::fp32{Kind::fp32};
inline constexpr Scheme Scheme::bf16{Kind::bf16};
inline constexpr Scheme Scheme::int8_tensor{Kind::int8_tensor};
inline constexpr Scheme Scheme::int8{Kind::int8};
inline constexpr Scheme Scheme::llm_int8{Kind::llm_int8};
inline constexpr Scheme Scheme::int8_group{WeightFormat::int8_group};
inline constexpr Scheme Scheme::stored{Kind::stored};

/// The name on the command line, e.g. "llm-int8", or the format's.
[[nodiscard]] KVANT_API std::string_view to_string(Scheme scheme) noexcept;
/// The scheme of a name; nothing for others.
[[nodiscard]] KVANT_API std::optional<Scheme> scheme_from_name(std::string_view name);
/// What a folder of floats can be run in: those with names of their own, then every other format
/// that the library packs. (Not Scheme::stored, which is for quantized folders.)
[[nodiscard]] KVANT_API const std::vector<Scheme>& all_schemes();
/// "fp32, bf16, ...", for messages.
[[nodiscard]] KVANT_API std::string scheme_names();

/// How the table of token embeddings is held, and the head, which may be the same table.
struct Embeddings {
  enum class Kind : std::uint8_t {
    floats,  ///< as the scheme holds floats
    packed,  ///< in `format`
    stored,  ///< in the blocks of a GGUF file
  };
  Kind kind = Kind::floats;
  WeightFormat format = WeightFormat::int8_row;  ///< of packed tables

  constexpr auto operator<=>(const Embeddings&) const = default;
};

/// "float", "stored", or the format's name.
[[nodiscard]] KVANT_API std::string_view to_string(Embeddings embeddings) noexcept;
/// By such a name; nothing for others, and for formats that no table is packed in.
[[nodiscard]] KVANT_API std::optional<Embeddings> embeddings_from_name(std::string_view name);
/// "float, int8, ...", for messages.
[[nodiscard]] KVANT_API std::string embeddings_names();

/// What users call the arithmetics that weights of up to 4 bits can be multiplied in: int8
/// (Arithmetic::kvant), int15, exact. Nothing for other names.
[[nodiscard]] KVANT_API std::optional<Arithmetic> arithmetic_from_name(
    std::string_view name) noexcept;
/// The same names the other way.
[[nodiscard]] KVANT_API std::string_view arithmetic_name(Arithmetic arithmetic) noexcept;

/// What the user asked for; what is not set follows from the folder.
struct Request {
  std::optional<Scheme> scheme = {};
  std::optional<Arithmetic> mode = {};
  /// Of outlier features: of llm-int8, and of integer products of other formats.
  std::optional<float> threshold = {};
  /// Which elements are outliers there (not calibrated: that is what calibrating gives).
  std::optional<Outliers> outliers = {};
  bool calibration_text = false;  ///< ids to calibrate with are given
  bool layer_formats = false;     ///< LoadOptions::formats will be given: scheme fp32 by default
  /// Of activations and weights of up to 4 bits, int8-group and stored ones: kvant (int8 products),
  /// int15 or exact.
  std::optional<Arithmetic> arithmetic = {};
  /// Weights that share a scale, in formats that let choose; a multiple of 32.
  std::optional<std::int64_t> group = {};
  /// Floats by default, but with Scheme::stored the blocks of a GGUF file.
  std::optional<Embeddings> embeddings = {};
};

/// What will be done.
struct Plan {
  Scheme scheme = Scheme::fp32;
  Arithmetic mode = Arithmetic::kvant;
  float threshold = 0;                    ///< 0: no features are apart
  std::optional<Outliers> outliers = {};  ///< nothing: as a stored folder says, or per call
  bool stored_int8 = false;               ///< the folder holds bitsandbytes' codes
  bool calibrate = false;  ///< find outlier columns while loading and keep their weights
  Arithmetic arithmetic = Arithmetic::kvant;  ///< as in Request
  std::int64_t group = 0;  ///< weights that share a scale; 0: as many as the format has by default
  Embeddings embeddings = {};

  /// Weights in groups, or as they are stored, that are multiplied by quantized activations unless
  /// `arithmetic` is exact.
  [[nodiscard]] bool has_integer_products() const {
    return scheme == Scheme::stored ||
           (scheme.kind == Scheme::Kind::packed && describe(scheme.format).has_integer_products());
  }
};

/// A combination of wishes that makes no sense: the caller's mistake, not the folder's.
class KVANT_API RequestError : public Error {
 public:
  explicit RequestError(const std::string& message) : Error(ErrorCode::invalid_argument, message) {}
};

/// @throws RequestError
KVANT_API Plan make_plan(const Config& config, const Request& request);

}  // namespace kvant::models
