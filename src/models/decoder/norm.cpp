#include "models/decoder/norm.hpp"

#include <cmath>

#include "models/decoder/rows.hpp"

namespace kvant::models {

void normalize_row(const Config& config, const Norm& norm, const float* x, std::int64_t width,
                   float* out) {
  const ConstArrayMap row(x, width);
  const ConstArrayMap weight(norm.weight.data(), width);
  ArrayMap result(out, width);
  if (config.norm == NormKind::rms) {
    const float scale = 1.0f / std::sqrt(row.square().mean() + config.norm_epsilon);
    result = row * scale * weight;
    return;
  }
  const float mean = row.mean();
  const float variance = (row - mean).square().mean();
  const float scale = 1.0f / std::sqrt(variance + config.norm_epsilon);
  if (norm.bias.empty()) {
    result = (row - mean) * scale * weight;
  } else {
    result = (row - mean) * scale * weight + ConstArrayMap(norm.bias.data(), width);
  }
}

void normalize(Context& context, const Config& config, MatrixView<const float> x, const Norm& norm,
               Stream stream, MatrixView<float> out) {
  by_rows(context, x.rows(), 4 * x.size(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      normalize_row(config, norm, x.row_data(r), x.cols(), out.row_data(r));
      if (stream == Stream::bf16) round_to_bfloat16(out.row_data(r), x.cols());
    }
  });
}

}  // namespace kvant::models
