#pragma once

/// @file
/// LayerReader: a stored linear layer's weights as float32 rows, a block of them at a time: memory
/// is one block, whatever the layer's size and form.
///
///     for (const auto& layer : kvant::io::find_linear_layers(checkpoint, hints)) {
///       const kvant::io::LayerReader reader(checkpoint, layer);
///       reader.read(0, 1, first_row.data());
///     }

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

/// A stored layer as weights of a format, as CodedWeights takes them: everything but the codes.
struct LayerCodes {
  WeightFormat format = WeightFormat::int4_group;
  std::int64_t block = 0;
  std::vector<float> scales = {};
  std::vector<std::uint8_t> zero_points = {};
  /// Input j of the codes is input order[j] of the layer (GPTQ's act order: inputs of a group are
  /// neighbours here, not there); empty: they are the same.
  std::vector<std::int32_t> order = {};
};

/// Any form that kvant knows. Refers to the checkpoint.
class KVANT_API LayerReader {
 public:
  /// @throws FormatError: parts of the layer (scales, descriptions) that are missing or do not fit
  LayerReader(const Checkpoint& checkpoint, const StoredLayer& layer);
  ~LayerReader();
  LayerReader(LayerReader&&) noexcept;
  LayerReader& operator=(LayerReader&&) noexcept;

  /// Rows [first, first + count) of the [outputs, inputs] weights, row after row into out, as the
  /// form's own library computes them. From several threads at once.
  void read(std::int64_t first, std::int64_t count, float* out) const;
  /// The layer as a weight format holds it, no code, zero point or scale changed; nothing where
  /// none does (groups of different sizes, scales beyond fp16, tables of its own, ...).
  /// (Where a form's own library rounds dequantized weights to 16 bits, the format does not.)
  [[nodiscard]] std::optional<LayerCodes> codes() const;
  /// The codes of rows [first, first + count), a byte each, inputs as in LayerCodes::order; only
  /// where codes() gives something.
  void read_codes(std::int64_t first, std::int64_t count, std::uint8_t* out) const;
  /// Input features whose weights are kept in half precision beside the codes; ascending.
  [[nodiscard]] std::vector<std::int64_t> kept_columns() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// How a layer's activations are quantized, where the checkpoint says it (compressed-tensors'
/// static scales of int8). Of its weights nothing is read.
/// @throws FormatError bad_scales: no number above 0, or none where config.json says there is one
[[nodiscard]] KVANT_API std::optional<QuantParams> input_params(const Checkpoint& checkpoint,
                                                                const StoredLayer& layer);

/// Rows of a block that reads about a MiB of floats; at least one.
[[nodiscard]] KVANT_API std::int64_t rows_per_block(const StoredLayer& layer) noexcept;

/// Why a layer is not among find_linear_layers() though tensors of a quantized form are there under
/// its name: what is wrong with them. Empty: nothing is, or there are none.
/// @param name of the layer, without ".weight"
[[nodiscard]] KVANT_API std::string broken_layer(const Checkpoint& checkpoint,
                                                 const std::string& name, const ModelHints& hints);

}  // namespace kvant::io
