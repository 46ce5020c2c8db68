#pragma once

// Builds a Model from a folder in Hugging Face form, quantizing tensor by tensor on the way.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <kvant/context.hpp>
#include <kvant/error.hpp>
#include <kvant/llm_int8.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model.hpp"

namespace gpt_bigcode {

enum class Scheme : std::uint8_t {
  fp32,
  bf16,
  int8_tensor,  ///< absmax of the whole tensor, weights and activations
  int8,         ///< vector-wise, no outliers
  llm_int8,     ///< vector-wise, outlier features in floating point
};

[[nodiscard]] std::string_view to_string(Scheme scheme) noexcept;
[[nodiscard]] std::optional<Scheme> scheme_from_name(std::string_view name) noexcept;
/// All of them, in the order of the table that examples/run.sh prints.
[[nodiscard]] const std::vector<Scheme>& all_schemes();

/// What the user asked for; what is not set follows from the folder.
struct Request {
  std::optional<Scheme> scheme;
  std::optional<kvant::Arithmetic> mode;
  std::optional<float> threshold;
  bool calibration_file = false;  ///< --calibrate was given
};

/// What will be done.
struct Plan {
  Scheme scheme = Scheme::fp32;
  kvant::Arithmetic mode = kvant::Arithmetic::kvant;
  float threshold = 0;
  bool stored_int8 = false;  ///< the folder holds bitsandbytes' codes
  bool calibrate = false;    ///< find outlier columns while loading and keep their weights
};

/// A combination of wishes that makes no sense: the caller's mistake, not the folder's.
class UsageError : public kvant::Error {
 public:
  explicit UsageError(const std::string& message)
      : kvant::Error(kvant::ErrorCode::invalid_argument, message) {}
};

/// @throws UsageError
Plan make_plan(const Config& config, const Request& request);

struct LoadOptions {
  Plan plan;
  /// Patterns over full module names (transformer.h.0.attn.c_attn; * and ? match any characters and
  /// any one): these linears stay in float. A pattern that matches no linear is an error.
  std::vector<std::string> skip;
  /// The ids to calibrate with; empty: some fixed pseudo-random ones.
  std::vector<TokenId> calibration_ids;
  /// Called before each block with its index and the number of blocks.
  std::function<void(std::int64_t, std::int64_t)> progress;
};

/// Peak memory: the model as it is held, plus one block as it is stored, plus activations.
/// @throws kvant::Error as Checkpoint does; shape_mismatch, unsupported, out_of_range
Model load_model(kvant::Context& context, const std::filesystem::path& folder, const Config& config,
                 const LoadOptions& options);

}  // namespace gpt_bigcode
