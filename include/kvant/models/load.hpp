#pragma once

/// @file
/// Builds a Model from a folder in Hugging Face form, quantizing tensor by tensor on the way.
///
///     kvant::Context context;
///     const auto config = kvant::models::load_config("model/config.json");
///     const auto model = kvant::models::load_model(
///         context, "model", config,
///         {.plan = make_plan(config, {.scheme = kvant::models::Scheme::llm_int8})});

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/layer_format.hpp"
#include "kvant/models/model.hpp"
#include "kvant/models/offload.hpp"
#include "kvant/models/plan.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

/// How load_model goes about it.
struct LoadOptions {
  Plan plan = {};
  /// Patterns over full layer names (transformer.h.0.attn.c_attn; * and ? match any characters and
  /// any one): these linears stay in float. A pattern that matches no linear is an error.
  std::vector<std::string> skip = {};
  /// Linear layers that are held in a format of their own, whatever the plan's scheme, by their
  /// names in the file or in the model; float32: in float. In Plan::arithmetic. A
  /// name that is no linear layer's is an error.
  std::map<std::string, LayerFormat> formats = {};
  /// The ids to calibrate with; empty: some fixed pseudo-random ones.
  std::vector<TokenId> calibration_ids = {};
  /// A LoRA adapter in PEFT's form, run in float beside the layers (adapter.hpp); empty: none. One
  /// that is for layers which the model does not have is an error.
  std::filesystem::path adapter = {};
  /// Which linear layers lie on a device; by default none. The model belongs to one thread at a
  /// time then. Not together with ranks.
  Offload offload = {};
  /// The processes that share the model: each reads and holds its part (split.hpp). All of them
  /// load, and then call what the model offers, at the same time with the same arguments. Must
  /// outlive the model. Null: this process alone.
  Ranks* ranks = nullptr;
  /// Called before each block with its index and the number of blocks.
  std::function<void(std::int64_t, std::int64_t)> progress = {};
};

/// Peak memory: the model as it is held, plus one block as it is stored, plus activations.
/// @throws Error as Checkpoint does; shape_mismatch, unsupported, out_of_range; as split_of
KVANT_API Model load_model(Context& context, const std::filesystem::path& folder,
                           const Config& config, const LoadOptions& options);

}  // namespace kvant::models
