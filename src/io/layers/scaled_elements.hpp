#pragma once

// Elements of 8 bits (int8 or e4m3) with scales for rectangles of the weight: one scale for all,
// for each output, for neighbours of an output, for squares. What compressed-tensors and DeepSeek's
// checkpoints have in common.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// Rectangles from the top left; the last ones of a row and column may be short.
struct ScaleGrid {
  std::int64_t block_rows = 1;
  std::int64_t block_cols = 1;
  std::int64_t across = 1;  ///< rectangles in a row of them
  std::vector<float> scales = {};
  std::vector<std::int8_t> zeros = {};  ///< as many, or none

  [[nodiscard]] std::size_t at(std::int64_t row, std::int64_t col) const noexcept {
    return static_cast<std::size_t>(row / block_rows * across + col / block_cols);
  }
};

/// What config.json says of the rectangles; 0: nothing.
struct SaidBlocks {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  bool operator==(const SaidBlocks&) const = default;
};

/// @throws FormatError bad_scales: neither F32, F16 nor BF16
void check_scale_type(const TensorInfo& scales);
/// @throws FormatError bad_scales: scales that no rectangles of a weight [outputs, inputs] have,
///         whatever their size; as check_scale_type
void check_scale_shape(const TensorInfo& scales, std::int64_t outputs, std::int64_t inputs);
/// The rectangles that a tensor of scales has, without its values.
/// @param scales [], [1], [N], [N, 1], [N, G] or [ceil(N / rows), ceil(K / cols)]
/// @throws FormatError bad_scales: a type or shape that fits no weight [outputs, inputs]
[[nodiscard]] ScaleGrid scale_grid_of(const TensorInfo& scales, std::int64_t outputs,
                                      std::int64_t inputs, const SaidBlocks& said);
/// Takes the values. @throws FormatError bad_scales: one that is not a finite number above 0
void read_scales(ScaleGrid& grid, const TensorView& scales);
/// I8 zero points, as many as scales; where all are 0 there are none. @throws FormatError
/// bad_scales
void read_zeros(ScaleGrid& grid, const TensorView& zeros);

/// The format that holds elements of a type (int8, float8_e4m3fn) in such rectangles, or comes
/// nearest.
[[nodiscard]] WeightFormat element_format(DType elements, const ScaleGrid& grid,
                                          std::int64_t inputs) noexcept;

class ScaledElements final : public RowDecoder {
 public:
  ScaledElements(const StoredLayer& layer, ScaleGrid grid)
      : dtype_(layer.dtype),
        outputs_(layer.outputs),
        inputs_(layer.inputs),
        grid_(std::move(grid)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override;
  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override;
  [[nodiscard]] std::optional<LayerCodes> codes() const override;
  void unpack(std::int64_t first_row, std::int64_t rows, std::span<const std::byte> bytes,
              std::uint8_t* out) const override;

 private:
  DType dtype_;
  std::int64_t outputs_;
  std::int64_t inputs_;
  ScaleGrid grid_;
};

}  // namespace kvant::io
