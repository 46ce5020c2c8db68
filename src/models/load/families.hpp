#pragma once

// The table of families: what each reads from its config.json, and what it calls its parts.

#include <span>
#include <string_view>

#include "kvant/models/config.hpp"
#include "models/load/config_reader.hpp"

namespace kvant::models {

/// One family of models. The names of its linear layers and embeddings stand in
/// io::find_architecture(model_type), which converters use too.
struct Family {
  std::string_view model_type;
  PartNames names;
  /// Fills in what differs from Config's defaults. What all families share (limits, divisibility,
  /// end tokens, quantization) is parse_config's.
  void (*describe)(const ConfigReader& reader, Config& config);
  PartNames encoder_names = {};  ///< of the encoder beside a decoder
};

/// In alphabetical order.
[[nodiscard]] std::span<const Family> family_table() noexcept;

/// Reads rope_parameters, or rope_scaling and rope_theta as they were before it.
/// @param partial whether the family rotates only a part of a head where its config says so
/// @throws Error unsupported (a type that is not built), invalid_file
[[nodiscard]] Rotary read_rotary(const ConfigReader& reader, const Config& config,
                                 float default_theta = 10000.0f, bool partial = false,
                                 float default_part = 1.0f);

}  // namespace kvant::models
