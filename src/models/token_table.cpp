#include "kvant/models/token_table.hpp"

#include "kvant/models/linear_layer.hpp"

namespace kvant::models {

const float* TokenTable::row(Context& context, std::int64_t id, std::vector<float>& scratch) const {
  if (!is_coded()) return floats_.widen(context, id, 1, scratch);
  scratch.resize(static_cast<std::size_t>(codes_.in_features()));
  codes_.weights().dequantize(MatrixView<float>(scratch.data(), 1, codes_.in_features()), id);
  return scratch.data();
}

void TokenTable::multiply(Context& context, MatrixView<const float> x,
                          const std::vector<float>& bias, MatrixView<float> y) const {
  if (!is_coded()) {
    multiply_float(context, x, floats_, bias, y);
    return;
  }
  codes_.forward(context, x, y);
  if (bias.empty()) return;
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    float* const row = y.row_data(r);
    for (std::int64_t i = 0; i < y.cols(); ++i) row[i] += bias[static_cast<std::size_t>(i)];
  }
}

}  // namespace kvant::models
