// Rotary positions of a GGUF file's metadata as config.json says them.

#include "models/gguf/metadata.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

/// A part of a head as config.json says it, such that the product is the whole number again.
double part_of_head(std::int64_t dims, std::int64_t head_dim) {
  const auto part = static_cast<float>(static_cast<double>(dims) / static_cast<double>(head_dim));
  const double product = static_cast<double>(head_dim) * static_cast<double>(part);
  if (static_cast<std::int64_t>(product) == dims) return static_cast<double>(part);
  return (static_cast<double>(dims) + 0.5) / static_cast<double>(head_dim);
}

/// YaRN as llama.cpp reads it: its own numbers, and an attention factor that is that of the method,
/// or none. (llama.cpp multiplies a factor of the file by the method's, some converters write the
/// product: another one would be read in two ways.)
void read_yarn(const Metadata& metadata, json& result) {
  metadata.copy_number(result, "beta_fast", metadata.key("rope.scaling.yarn_beta_fast"));
  metadata.copy_number(result, "beta_slow", metadata.key("rope.scaling.yarn_beta_slow"));
  metadata.copy_integer(result, "original_max_position_embeddings",
                        metadata.key("rope.scaling.original_context_length"));
  const double factor = result.value("factor", 1.0);
  const double own = factor > 1.0 ? 0.1 * std::log(factor) + 1.0 : 1.0;
  const double given = metadata.number("rope.scaling.attn_factor").value_or(1.0);
  if (given != 1.0 && std::fabs(given - own) > 1e-5 * own) {
    metadata.fail(ErrorCode::unsupported, metadata.key("rope.scaling.attn_factor") + " is " +
                                              std::to_string(given) + ", neither 1 nor " +
                                              std::to_string(own) + ", YaRN's own");
  }
  const double blend = metadata.number("rope.scaling.yarn_ext_factor").value_or(1.0);
  if (blend >= 0.0 && blend != 1.0) {  // below 0: not given
    metadata.fail(ErrorCode::unsupported, metadata.key("rope.scaling.yarn_ext_factor") + " is " +
                                              std::to_string(blend) + ", not 1");
  }
}

}  // namespace

json gguf_rotary(const Metadata& metadata, std::int64_t head_dim) {
  json result = json::object();
  metadata.copy_number(result, "rope_theta", metadata.key("rope.freq_base"));
  const std::int64_t dims = metadata.integer("rope.dimension_count", head_dim);
  if (dims != head_dim) {
    if (!metadata.is("phi3") && !metadata.is("gptneox")) {
      metadata.fail(ErrorCode::unsupported, metadata.key("rope.dimension_count") + " is " +
                                                std::to_string(dims) + ", a head has " +
                                                std::to_string(head_dim) + " elements");
    }
    result["partial_rotary_factor"] = part_of_head(dims, head_dim);
  }
  metadata.require_absent({"rope.scale_linear", "rope.scaling.alpha"});
  const bool scaled = metadata.number("rope.scaling.factor").value_or(1.0) != 1.0;
  const std::string_view type =
      metadata.file().text(metadata.key("rope.scaling.type")).value_or(scaled ? "linear" : "none");
  if (type != "yarn") {  // what it would not mean alone
    if (metadata.number("rope.scaling.attn_factor").value_or(1.0) != 1.0) {
      metadata.require_absent({"rope.scaling.attn_factor"});
    }
    if (metadata.number("rope.scaling.yarn_ext_factor").value_or(0.0) > 0.0) {
      metadata.require_absent({"rope.scaling.yarn_ext_factor"});
    }
  }
  if (type == "none") return result;
  if (type != "linear" && type != "yarn") {
    metadata.fail(ErrorCode::unsupported, "rope.scaling.type \"" + std::string(type.substr(0, 40)) +
                                              "\" is not one of none, linear, yarn");
  }
  result["rope_type"] = type;
  metadata.copy_number(result, "factor", metadata.key("rope.scaling.factor"));
  if (type == "yarn") read_yarn(metadata, result);
  return result;
}

}  // namespace kvant::models
