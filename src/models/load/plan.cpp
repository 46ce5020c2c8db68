// From wishes and folder to what will be done; and names.

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "kvant/models/layer_format.hpp"
#include "kvant/models/plan.hpp"

namespace kvant::models {
namespace {

struct NamedScheme {
  Scheme scheme;
  std::string_view name;
};
constexpr std::array<NamedScheme, 6> kNamed = {{
    {Scheme::fp32, "fp32"},
    {Scheme::bf16, "bf16"},
    {Scheme::int8_tensor, "int8-tensor"},
    {Scheme::int8, "int8"},
    {Scheme::llm_int8, "llm-int8"},
    {Scheme::stored, "stored"},
}};

constexpr float kDefaultThreshold = 6.0f;

bool has_own_name(WeightFormat format) {
  return std::any_of(kNamed.begin(), kNamed.end(),
                     [&](const NamedScheme& named) { return named.name == to_string(format); });
}

}  // namespace

std::string_view to_string(Scheme scheme) noexcept {
  for (const NamedScheme& named : kNamed) {
    if (named.scheme.kind == scheme.kind) return named.name;
  }
  return to_string(scheme.format);
}

std::optional<Scheme> scheme_from_name(std::string_view name) {
  if (name == to_string(Scheme::stored)) return Scheme::stored;
  for (const Scheme scheme : all_schemes()) {
    if (to_string(scheme) == name) return scheme;
  }
  return std::nullopt;
}

const std::vector<Scheme>& all_schemes() {
  static const std::vector<Scheme> schemes = [] {
    std::vector<Scheme> result;
    for (const NamedScheme& named : kNamed) {
      if (named.scheme != Scheme::stored) result.push_back(named.scheme);
    }
    for (const WeightFormatInfo& info : weight_format_table()) {
      if (!has_own_name(info.format) && !info.is_gguf()) result.emplace_back(info.format);
    }
    return result;
  }();
  return schemes;
}

std::string scheme_names() {
  std::string names;
  for (const Scheme scheme : all_schemes()) {
    names.append(to_string(scheme)).append(", ");
  }
  return names.append(to_string(Scheme::stored));
}

namespace {

constexpr std::string_view kFloatTable = "float";

/// Formats that products of integers take, and whose rows are decoded one by one.
bool holds_tables(const WeightFormatInfo& info) {
  return info.has_integer_products() && !info.is_gguf();
}

}  // namespace

std::string_view to_string(Embeddings embeddings) noexcept {
  switch (embeddings.kind) {
    case Embeddings::Kind::floats: return kFloatTable;
    case Embeddings::Kind::stored: return to_string(Scheme::stored);
    case Embeddings::Kind::packed: break;
  }
  return to_string(embeddings.format);
}

std::optional<Embeddings> embeddings_from_name(std::string_view name) {
  if (name == kFloatTable) return Embeddings{};
  if (name == to_string(Scheme::stored)) return Embeddings{.kind = Embeddings::Kind::stored};
  const auto format = weight_format_from_name(name);
  if (!format || !holds_tables(describe(*format))) return std::nullopt;
  return Embeddings{Embeddings::Kind::packed, *format};
}

std::string embeddings_names() {
  std::string names(kFloatTable);
  for (const WeightFormatInfo& info : weight_format_table()) {
    if (holds_tables(info)) names.append(", ").append(info.name);
  }
  return names.append(", ").append(to_string(Scheme::stored));
}

std::optional<Arithmetic> arithmetic_from_name(std::string_view name) noexcept {
  for (const Arithmetic each : {Arithmetic::kvant, Arithmetic::int15, Arithmetic::exact}) {
    if (name == arithmetic_name(each)) return each;
  }
  return std::nullopt;
}

std::string_view arithmetic_name(Arithmetic arithmetic) noexcept {
  switch (arithmetic) {
    case Arithmetic::kvant: return "int8";
    case Arithmetic::int15: return "int15";
    case Arithmetic::exact: return "exact";
    case Arithmetic::bitsandbytes: break;
  }
  return "bitsandbytes";
}

namespace {

/// Outlier features: whether there are any, which they are, and whether their weights are kept.
void plan_outliers(const Config& config, const Request& request, Plan& plan) {
  const std::string scheme(to_string(plan.scheme));
  const bool llm_int8 = plan.scheme == Scheme::llm_int8;
  const bool in_codes = (plan.has_integer_products() || request.layer_formats) &&
                        plan.arithmetic == Arithmetic::kvant;
  if (!llm_int8 && !in_codes) {
    const std::string where =
        "for the scheme llm-int8 and for int8 products of other formats, not for " + scheme +
        (plan.has_integer_products()
             ? " in the arithmetic " + std::string(arithmetic_name(plan.arithmetic))
             : "");
    if (request.threshold.value_or(0) > 0) {
      throw RequestError("a threshold above 0 is " + where);
    }
    if (request.outliers) throw RequestError("the choice of outliers is " + where);
  } else {
    const float own = plan.stored_int8 ? config.int8->threshold : kDefaultThreshold;
    plan.threshold = request.threshold.value_or(own);
    plan.outliers = request.outliers;
  }
  if (request.outliers == Outliers::per_row && plan.mode == Arithmetic::bitsandbytes) {
    throw RequestError(
        "outliers by rows are not bitsandbytes' arithmetic, which takes whole columns");
  }
  // The original weights of outlier columns are there to keep only in a float folder.
  const bool floats = !plan.stored_int8 && plan.mode == Arithmetic::kvant && plan.threshold > 0;
  plan.calibrate = floats && (llm_int8 || (request.calibration_text && in_codes &&
                                           plan.scheme.kind == Scheme::Kind::packed &&
                                           !config.stored_quantized));
  if (request.calibration_text && !plan.calibrate) {
    throw RequestError(
        "calibration is for the scheme llm-int8 in kvant's arithmetic, and for int8 products of "
        "other formats (int4, nf4, ...), with a threshold above 0, on a float folder");
  }
}

}  // namespace

Plan make_plan(const Config& config, const Request& request) {
  Plan plan;
  plan.stored_int8 = config.int8.has_value();
  plan.scheme = request.scheme.value_or(request.layer_formats     ? Scheme::fp32
                                        : plan.stored_int8        ? Scheme::llm_int8
                                        : config.stored_quantized ? Scheme::stored
                                                                  : Scheme::fp32);
  const std::string scheme(to_string(plan.scheme));
  if (request.layer_formats && (plan.scheme == Scheme::bf16 || plan.scheme == Scheme::stored)) {
    throw RequestError("formats by layer go with schemes that begin with floats, not with " +
                       scheme);
  }
  if (plan.scheme == Scheme::stored && !config.stored_quantized && !plan.stored_int8) {
    throw RequestError(
        "the scheme stored is for models whose layers are quantized (by config.json's "
        "quantization_config, or as blocks of GGUF); this one holds floats");
  }
  if (plan.stored_int8 && plan.scheme == Scheme::stored) plan.scheme = Scheme::llm_int8;
  plan.stored_int8 = plan.stored_int8 && plan.scheme == Scheme::llm_int8;  // others expand them
  const bool quantizes = plan.scheme == Scheme::int8 || plan.scheme == Scheme::llm_int8;
  if (request.mode == Arithmetic::bitsandbytes && !quantizes) {
    throw RequestError("bitsandbytes' arithmetic is for the schemes int8 and llm-int8, not for " +
                       scheme);
  }
  const bool coded_tables =
      request.embeddings && request.embeddings->kind != Embeddings::Kind::floats;
  if (request.arithmetic && !plan.has_integer_products() && !coded_tables &&
      !request.layer_formats) {
    throw RequestError(
        "exact, int8 or int15 arithmetic can be chosen for int8-group, int2, int3, int4, nf4, fp4, "
        "mxfp4 "
        "and stored weights, not for " +
        scheme);
  }
  if (request.arithmetic == Arithmetic::bitsandbytes) {
    throw RequestError("bitsandbytes' arithmetic is a mode of the schemes int8 and llm-int8");
  }
  plan.arithmetic = request.arithmetic.value_or(Arithmetic::kvant);
  plan.mode = request.mode.value_or(Arithmetic::kvant);
  plan_outliers(config, request, plan);
  if (request.group) {
    const bool has_groups =
        plan.scheme.kind == Scheme::Kind::packed && takes_groups(plan.scheme.format);
    if (!has_groups) {
      throw RequestError(
          "groups of weights can be chosen for schemes that have them (int8-group, int4, int3, "
          "int2, nf4, fp4), not for " +
          scheme);
    }
    if (*request.group < 32 || *request.group % 32 != 0 || *request.group > (1 << 20)) {
      throw RequestError("groups of " + std::to_string(*request.group) +
                         " weights; multiples of 32 are possible");
    }
    plan.group = *request.group;
  }
  const bool in_blocks = plan.scheme == Scheme::stored && config.stored_tables;
  plan.embeddings = request.embeddings.value_or(
      Embeddings{in_blocks ? Embeddings::Kind::stored : Embeddings::Kind::floats});
  if (plan.embeddings.kind == Embeddings::Kind::stored && !config.stored_tables) {
    throw RequestError(
        "stored embeddings are for GGUF files whose token table is in blocks that are multiplied "
        "(Q4_0 to Q8_0, Q4_K, Q5_K, Q6_K); this table is in floats");
  }
  return plan;
}

}  // namespace kvant::models
