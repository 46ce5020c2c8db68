// Rotary positions as config.json describes them.

#include <cmath>
#include <string>

#include "models/load/families.hpp"

namespace kvant::models {
namespace {

/// What attention's sharpness is corrected by, arXiv 2309.00071.
float yarn_scale(float factor, float multiplier) {
  return factor <= 1.0f ? 1.0f : 0.1f * multiplier * std::log(factor) + 1.0f;
}

void read_yarn(const ConfigReader& rope, const ConfigReader& reader, Rotary& rotary) {
  rope.positive(rotary.beta_fast, "beta_fast");
  rope.positive(rotary.beta_slow, "beta_slow");
  rope.boolean(rotary.truncate, "truncate");
  float numerator = 0;
  float denominator = 0;
  rope.number(numerator, "mscale");
  rope.number(denominator, "mscale_all_dim");
  rotary.attention_factor =
      numerator > 0 && denominator > 0
          ? yarn_scale(rotary.factor, numerator) / yarn_scale(rotary.factor, denominator)
          : yarn_scale(rotary.factor, 1.0f);
  rope.positive(rotary.attention_factor, "attention_factor");
  if (!(rotary.theta > 1.0f)) {
    reader.invalid("rope_theta is " + std::to_string(rotary.theta) + "; yarn needs more than 1");
  }
}

}  // namespace

Rotary read_rotary(const ConfigReader& reader, const Config& config, float default_theta,
                   bool partial, float default_part) {
  Rotary rotary;
  const ConfigReader rope =
      reader.object(reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  for (const auto& [key, value] : rope.json().items()) {
    if (value.is_object()) {  // a set of parameters for each type of layer
      reader.unsupported("rope_parameters." + key.substr(0, 40) + " is an object: not supported");
    }
  }
  rotary.theta = default_theta;
  reader.positive(rotary.theta, "rope_theta", "rotary_emb_base");
  rope.positive(rotary.theta, "rope_theta");

  float part = default_part;
  reader.positive(part, "partial_rotary_factor", "rotary_pct");
  rope.positive(part, "partial_rotary_factor");
  if (!partial && part != 1.0f) {
    reader.unsupported("partial_rotary_factor is " + std::to_string(part) +
                       ", which this family does not have");
  }
  rotary.dims =
      static_cast<std::int64_t>(static_cast<double>(config.head_dim) * static_cast<double>(part));
  if (part > 1.0f || rotary.dims < 2 || rotary.dims % 2 != 0) {
    reader.invalid("partial_rotary_factor " + std::to_string(part) + " of a head of " +
                   std::to_string(config.head_dim) + " is " + std::to_string(rotary.dims) +
                   " elements, not an even number from 2 on");
  }

  const std::string type = rope.text("rope_type", rope.text("type", "default").c_str());
  if (type == "default") return rotary;
  if (type == "linear") {
    rotary.scaling = RotaryScaling::linear;
  } else if (type == "dynamic") {
    rotary.scaling = RotaryScaling::dynamic;
  } else if (type == "llama3") {
    rotary.scaling = RotaryScaling::llama3;
  } else if (type == "yarn") {
    rotary.scaling = RotaryScaling::yarn;
  } else {
    reader.unsupported("rope_type \"" + type.substr(0, 40) +
                       "\" is not one of default, linear, dynamic, llama3, yarn");
  }
  rotary.original_length = config.n_positions;
  if (rotary.scaling != RotaryScaling::dynamic) {  // transformers ignores it there
    reader.size(rotary.original_length, "original_max_position_embeddings");
    rope.size(rotary.original_length, "original_max_position_embeddings");
  }
  rotary.factor =
      static_cast<float>(config.n_positions) / static_cast<float>(rotary.original_length);
  if (rotary.scaling != RotaryScaling::yarn && !rope.has("factor")) {
    reader.invalid("rope_type " + type + " has no factor");
  }
  rope.positive(rotary.factor, "factor");
  if (rotary.scaling == RotaryScaling::llama3) {
    rope.positive(rotary.low_frequency_factor, "low_freq_factor");
    rope.positive(rotary.high_frequency_factor, "high_freq_factor");
    if (!(rotary.high_frequency_factor > rotary.low_frequency_factor)) {
      reader.invalid("high_freq_factor " + std::to_string(rotary.high_frequency_factor) +
                     " is not above low_freq_factor " +
                     std::to_string(rotary.low_frequency_factor));
    }
  }
  if (rotary.scaling == RotaryScaling::dynamic && rotary.dims < 4) {
    reader.invalid("rope_type dynamic needs 4 rotated elements, not " +
                   std::to_string(rotary.dims));
  }
  if (rotary.scaling == RotaryScaling::yarn) read_yarn(rope, reader, rotary);
  return rotary;
}

}  // namespace kvant::models
