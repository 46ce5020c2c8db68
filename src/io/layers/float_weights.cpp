// Floating-point weights: elements without scales, [outputs, inputs], or [inputs, outputs] where
// the architecture stores them so.

#include <cstring>

#include "io/checkpoint/linear_rules.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"

namespace kvant::io {
namespace {

class FloatRows final : public RowDecoder {
 public:
  explicit FloatRows(const StoredLayer& layer)
      : dtype_(layer.dtype),
        outputs_(layer.outputs),
        inputs_(layer.inputs),
        transposed_(layer.transposed),
        size_(describe(layer.dtype).bits / 8) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    if (transposed_) return {0, static_cast<std::uint64_t>(outputs_ * inputs_ * size_)};
    return {static_cast<std::uint64_t>(first_row * inputs_ * size_),
            static_cast<std::uint64_t>(rows * inputs_ * size_)};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    if (!transposed_) {
      if (block.cols == inputs_) {
        widen(bytes.data(), dtype_, block.rows * inputs_, out);
        return;
      }
      for (std::int64_t r = 0; r < block.rows; ++r) {
        widen(bytes.data() + (r * inputs_ + block.first_col) * size_, dtype_, block.cols,
              out + r * block.cols);
      }
      return;
    }
    std::vector<float> column(static_cast<std::size_t>(block.rows));
    for (std::int64_t c = 0; c < block.cols; ++c) {
      widen(bytes.data() + ((block.first_col + c) * outputs_ + block.first_row) * size_, dtype_,
            block.rows, column.data());
      for (std::int64_t r = 0; r < block.rows; ++r) {
        out[r * block.cols + c] = column[static_cast<std::size_t>(r)];
      }
    }
  }

 private:
  DType dtype_;
  std::int64_t outputs_;
  std::int64_t inputs_;
  bool transposed_;
  std::int64_t size_;
};

class FloatWeights final : public StoredFormat {
 public:
  [[nodiscard]] bool claims(const FindTensor&, const TensorInfo& weight) const override {
    return describe(weight.dtype).kind == DTypeKind::floating;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules& rules) const override {
    if (!is_weight_matrix(weight)) return std::nullopt;
    StoredLayer layer = start_layer(weight, weight_format_of(weight.dtype));
    const WeightKind kind = rules.judge(layer.name, weight, find);
    if (kind == WeightKind::other) return std::nullopt;
    layer.stays_float = kind != WeightKind::linear;
    // GPT-2's Conv1D multiplies from the other side; output heads do not.
    layer.transposed = !layer.stays_float && rules.transposed(layer.name);
    layer.outputs = static_cast<std::int64_t>(weight.shape[layer.transposed ? 1 : 0]);
    layer.inputs = static_cast<std::int64_t>(weight.shape[layer.transposed ? 0 : 1]);
    return layer;
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint&,
                                                 const StoredLayer& layer) const override {
    return std::make_unique<FloatRows>(layer);
  }
};

}  // namespace

const StoredFormat& float_weights() {
  static const FloatWeights form;
  return form;
}

}  // namespace kvant::io
