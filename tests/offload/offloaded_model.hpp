#pragma once

// Models with layers on the emulated device, and what is compared of them.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulator/emulated_cuda.hpp"
#include "kvant/models/device_linear.hpp"
#include "models/model_builder.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {

using Ids = std::vector<models::TokenId>;

/// Everything on the device that fits.
inline models::Offload to_device(std::optional<std::uint64_t> limit = std::nullopt) {
  models::Offload offload;
  offload.device = &emulated_cuda_device;
  offload.limit = limit;
  offload.rows = 24;
  return offload;
}

inline models::Model load_offloaded(Context& context, const std::filesystem::path& folder,
                                    const std::string& scheme, models::Offload offload,
                                    models::LoadOptions options = {},
                                    models::Request request = {}) {
  const models::Config config = models::load_config(folder / "config.json");
  if (!scheme.empty()) request.scheme = models::scheme_from_name(scheme);
  options.plan = models::make_plan(config, request);
  options.offload = std::move(offload);
  return models::load_model(context, folder, config, options);
}

/// Logits of a prompt, and the ids that follow it.
struct Answer {
  std::vector<float> logits;
  Ids ids;
  bool operator==(const Answer&) const = default;
};

inline Answer answer_of(Context& context, const models::Model& model,
                        const Ids& prompt = {5, 17, 50, 3, 3, 41, 8}) {
  if (model.config.kind == models::ModelKind::encoder_decoder) {
    models::Cache cache;
    read_source(context, model, prompt, cache);
    return {logits_of(context, model, {0, 9, 4}, cache), {}};
  }
  models::GenerateOptions options;
  options.tokens = 6;
  options.ignore_eos = true;
  return {logits_of(context, model, prompt), generate(context, model, prompt, options)};
}

/// A small model of this family with outlier features: column 3 has one for every token, and is
/// calibrated; column 7 for token 50 alone, which the calibration does not see.
inline TestModel model_with_outliers() {
  TestModel model;
  model.fill(3);
  for (const char* block : {"transformer.h.0.", "transformer.h.1."}) {
    model.tensors[std::string(block) + "ln_1.weight"].values[3] = 60;
    model.tensors[std::string(block) + "ln_2.weight"].values[3] = 60;
  }
  model.tensors["transformer.h.0.ln_1.weight"].values[7] = 1.5f;
  model.tensors["transformer.wte.weight"].values[50 * 32 + 7] = 40;
  return model;
}

inline models::LoadOptions calibrated() {
  models::LoadOptions options;
  options.calibration_ids = {1, 2, 3, 4, 5, 6, 7, 8};
  return options;
}

inline std::string reason_of(const models::Model& model, const std::string& name) {
  for (const models::LayerPlace& layer : model.placement->layers) {
    if (layer.name == name) return layer.on_device ? "on the device" : layer.reason;
  }
  return "no such layer";
}

}  // namespace kvant::test
