// From wishes and folder to what will be done; and names.

#include <array>
#include <optional>
#include <string>

#include "kvant/models/plan.hpp"

namespace kvant::models {
namespace {

struct SchemeInfo {
  Scheme scheme;
  std::string_view name;
  std::optional<WeightFormat> packed = {};
};
constexpr std::array<SchemeInfo, 6> kSchemes = {{
    {Scheme::fp32, "fp32"},
    {Scheme::bf16, "bf16"},
    {Scheme::int8_tensor, "int8-tensor"},
    {Scheme::int8, "int8"},
    {Scheme::llm_int8, "llm-int8"},
    {Scheme::int8_group, "int8-group", WeightFormat::int8_group},
}};

constexpr float kDefaultThreshold = 6.0f;

}  // namespace

std::string_view to_string(Scheme scheme) noexcept {
  for (const SchemeInfo& info : kSchemes) {
    if (info.scheme == scheme) return info.name;
  }
  return "unknown";
}

std::optional<WeightFormat> packed_format(Scheme scheme) noexcept {
  for (const SchemeInfo& info : kSchemes) {
    if (info.scheme == scheme) return info.packed;
  }
  return std::nullopt;
}

std::optional<Scheme> scheme_from_name(std::string_view name) noexcept {
  for (const SchemeInfo& info : kSchemes) {
    if (info.name == name) return info.scheme;
  }
  return std::nullopt;
}

const std::vector<Scheme>& all_schemes() {
  static const std::vector<Scheme> schemes = [] {
    std::vector<Scheme> result;
    for (const SchemeInfo& info : kSchemes) result.push_back(info.scheme);
    return result;
  }();
  return schemes;
}

Plan make_plan(const Config& config, const Request& request) {
  Plan plan;
  plan.stored_int8 = config.int8.has_value();
  plan.scheme = request.scheme.value_or(plan.stored_int8 ? Scheme::llm_int8 : Scheme::fp32);
  const std::string scheme(to_string(plan.scheme));
  if (plan.stored_int8 && plan.scheme != Scheme::llm_int8) {
    throw RequestError("the scheme " + scheme +
                       " conflicts with the folder, which holds 8-bit weights of bitsandbytes "
                       "(llm-int8)");
  }
  const bool quantizes = plan.scheme == Scheme::int8 || plan.scheme == Scheme::llm_int8;
  if (request.mode == Arithmetic::bitsandbytes && !quantizes) {
    throw RequestError("bitsandbytes' arithmetic is for the schemes int8 and llm-int8, not for " +
                       scheme);
  }
  if (request.threshold.value_or(0) > 0 && plan.scheme != Scheme::llm_int8) {
    throw RequestError("a threshold above 0 is for the scheme llm-int8, not for " + scheme);
  }
  plan.mode = request.mode.value_or(Arithmetic::kvant);
  if (plan.scheme == Scheme::llm_int8) {
    const float own = plan.stored_int8 ? config.int8->threshold : kDefaultThreshold;
    plan.threshold = request.threshold.value_or(own);
    // The original weights of outlier columns are there to keep only in a float folder.
    plan.calibrate = plan.mode == Arithmetic::kvant && plan.threshold > 0 && !plan.stored_int8;
  }
  if (request.calibration_text && !plan.calibrate) {
    throw RequestError(
        "calibration is for the scheme llm-int8 in kvant's arithmetic, with a threshold above 0, "
        "on "
        "a float folder");
  }
  return plan;
}

}  // namespace kvant::models
