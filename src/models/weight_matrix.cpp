#include "kvant/models/weight_matrix.hpp"

#include "kvant/kernel_table.hpp"

namespace kvant::models {
namespace {

std::int64_t size_of(DType dtype) {
  return describe(dtype).bits / 8;
}

}  // namespace

WeightMatrix::WeightMatrix(std::int64_t rows, std::int64_t cols, DType dtype)
    : rows_(rows),
      cols_(cols),
      dtype_(dtype),
      data_(static_cast<std::size_t>(rows * cols * size_of(dtype))) {}

std::byte* WeightMatrix::row_data(std::int64_t row) noexcept {
  return data_.data() + row * cols_ * size_of(dtype_);
}

const std::byte* WeightMatrix::row_data(std::int64_t row) const noexcept {
  return data_.data() + row * cols_ * size_of(dtype_);
}

const float* WeightMatrix::widen(Context& context, std::int64_t first, std::int64_t count,
                                 std::vector<float>& scratch) const {
  const std::byte* rows = row_data(first);
  if (dtype_ == DType::float32) return reinterpret_cast<const float*>(rows);
  const auto size = static_cast<std::size_t>(count * cols_);
  if (scratch.size() < size) scratch.resize(size);
  context.kernels().convert({rows, dtype_, scratch.data(), DType::float32, count * cols_});
  return scratch.data();
}

std::vector<float> WeightMatrix::floats(Context& context) const {
  std::vector<float> result;
  const float* values = widen(context, 0, rows_, result);
  if (result.empty()) result.assign(values, values + rows_ * cols_);
  return result;
}

}  // namespace kvant::models
