#pragma once

/// @file
/// LayerEncoder: how codes are chosen by others than quantize_checkpoint itself: methods that know
/// more than the weights (kvant/models/quantize_methods.hpp has GPTQ's and AWQ's), or a caller's
/// own. And WeightScaling: what is multiplied into weights before.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::io {

/// Some rows of a layer as codes in groups: value = (code - zero point) * scale.
struct EncodedRows {
  std::vector<std::uint8_t> codes;        ///< [rows, inputs]
  std::vector<float> scales;              ///< [rows, groups], each as fp16 holds it
  std::vector<std::uint8_t> zero_points;  ///< [rows, groups]
};

/// One layer's encoder. encode() is called from several threads, for different rows.
class KVANT_API RowEncoder {
 public:
  virtual ~RowEncoder() = default;
  /// @param rows some outputs' weights, scaled already. @throws Error, to which the layer is added
  [[nodiscard]] virtual EncodedRows encode(MatrixView<const float> rows) const = 0;
  /// The group of each input; empty: neighbours, as many as the group size says.
  [[nodiscard]] virtual std::vector<std::int32_t> group_of() const { return {}; }
};

/// Chooses the codes of the layers of a model. The layers come one after the other.
class KVANT_API LayerEncoder {
 public:
  virtual ~LayerEncoder() = default;
  /// Before the first row of a layer. @throws Error, to which the layer's name is added
  [[nodiscard]] virtual std::unique_ptr<RowEncoder> open(const std::string& layer,
                                                         std::int64_t outputs,
                                                         std::int64_t inputs) const = 0;
};

/// Factors of a weight's outputs and inputs, or of a vector's elements (outputs); empty: 1.
struct WeightScaling {
  std::vector<float> outputs = {};
  std::vector<float> inputs = {};
  /// What a model adds to the stored value before it uses it (norms of Gemma: 1).
  float offset = 0;
};

}  // namespace kvant::io
