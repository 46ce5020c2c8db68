#pragma once

// From the parameters of a linear layer, in float or as codes, to the layer that a plan asks for.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/models/load.hpp"
#include "models/load/block_layout.hpp"
#include "models/load/layer_placer.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// A linear layer's parameters in float, as stored.
struct FloatParameters {
  WeightMatrix weights;
  std::vector<float> bias;
};

/// A bias as layers take it; empty: there is none.
[[nodiscard]] ConstAnyMatrix bias_view(const std::vector<float>& bias);

/// What a layer is called.
struct LayerName {
  std::string file;  ///< in the file: base models are saved without the prefix
  std::string full;  ///< in the model, which patterns are matched against
  std::string bare;  ///< without the prefix
};

class LayerMaker {
 public:
  LayerMaker(Context& context, const Config& config, const LoadOptions& options,
             const WeightSource& source);

  /// A layer in float, on the host; what it takes is gone from memory when the layer is there, here
  /// and below.
  [[nodiscard]] std::unique_ptr<LinearLayer> stay_float(const LayerName& layer,
                                                        FloatParameters parameters) const;
  /// A layer as the plan has it.
  /// @param parameters weights of the outputs rows_to_read(), the bias of spec.rows
  [[nodiscard]] std::unique_ptr<LinearLayer> quantize(
      const LayerName& layer, const LinearSpec& spec, FloatParameters parameters,
      const std::vector<std::int64_t>& keep_columns) const;
  /// Outputs that must be known to quantize those of a rank: in formats whose scales are shared by
  /// several outputs, some of its neighbours' too. Empty: all.
  [[nodiscard]] std::vector<Share> rows_to_read(const LayerName& layer,
                                                const LinearSpec& spec) const;

  /// The file has the layer in bitsandbytes' 8-bit form.
  [[nodiscard]] bool holds_codes(const LayerName& layer) const;
  /// From that form, with the columns that kvant kept beside the codes.
  /// @throws RequestError, Error shape_mismatch
  [[nodiscard]] std::unique_ptr<LinearLayer> from_stored_codes(
      const LayerName& layer, const LinearSpec& linear, const std::vector<float>& bias) const;

  /// From the codes of a folder in any other form, as the plan has it; null: the layer is to be in
  /// float, or in another scheme, or no weight format holds what is stored.
  /// @throws Error shape_mismatch; as WeightSource::packed
  [[nodiscard]] std::unique_ptr<LinearLayer> from_stored_layer(
      const LayerName& layer, const LinearSpec& linear, const std::vector<float>& bias) const;

  [[nodiscard]] bool bf16() const { return plan().scheme == Scheme::bf16; }
  /// How stored 8-bit layers choose outliers.
  [[nodiscard]] Outliers outliers() const noexcept { return outliers_; }
  /// Stored layers that no weight format holds, in float for that reason.
  [[nodiscard]] const std::vector<std::string>& expanded() const noexcept { return expanded_; }
  /// Where the layers are that were made; null: no device was asked for.
  [[nodiscard]] std::shared_ptr<const Placement> placement() const noexcept {
    return placer_->placement();
  }

 private:
  [[nodiscard]] const Plan& plan() const { return options_.plan; }
  [[nodiscard]] bool skipped(const LayerName& layer) const;
  [[nodiscard]] ActivationOptions activations() const;
  /// The layer's own format (LoadOptions::formats), or the plan's; nothing where other schemes than
  /// formats are asked for.
  [[nodiscard]] std::optional<LayerFormat> format_of(const LayerName& layer) const;
  [[nodiscard]] const LayerFormat* own_format(const LayerName& layer) const;
  /// A layer on the device or on the host, whose Linear `make` makes for either.
  [[nodiscard]] std::unique_ptr<LinearLayer> place(const LayerName& layer, const LayerNeeds& needs,
                                                   const LayerPlacer::Make& make) const;
  /// A layer in float where all layers are: the device has them too.
  [[nodiscard]] std::unique_ptr<LinearLayer> place_float(const LayerName& layer,
                                                         FloatParameters parameters) const;
  /// A layer with one scale for all weights, those of other ranks included.
  [[nodiscard]] std::unique_ptr<LinearLayer> quantize_by_tensor(const LayerName& layer,
                                                                ConstAnyMatrix weights,
                                                                ConstAnyMatrix bias) const;
  /// Does not quantize layers.
  [[nodiscard]] bool stays(const LayerName& layer) const;
  /// @param read the outputs that `weights` are
  [[nodiscard]] PackedWeights pack(Context& at, ConstAnyMatrix weights, LayerFormat format,
                                   const std::vector<Share>& read,
                                   const std::vector<Share>& rows) const;

  Context& context_;
  const LoadOptions& options_;
  const WeightSource& source_;
  std::unique_ptr<LayerPlacer> placer_;
  Outliers outliers_ = Outliers::per_call;
  mutable std::vector<std::string> expanded_;
};

}  // namespace kvant::models
