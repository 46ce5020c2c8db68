#pragma once

/// @file
/// WeightMatrix: a float matrix kept in fp32, fp16 or bf16, widened block by block where it is
/// used.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvant/aligned_array.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::models {

/// An owning float matrix in the type that it is stored in.
class KVANT_API WeightMatrix {
 public:
  WeightMatrix() = default;
  /// Uninitialised.
  WeightMatrix(std::int64_t rows, std::int64_t cols, DType dtype);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return data_.size(); }
  [[nodiscard]] ConstAnyMatrix view() const noexcept {
    return {data_.data(), dtype_, rows_, cols_, cols_};
  }
  [[nodiscard]] std::byte* row_data(std::int64_t row) noexcept;
  [[nodiscard]] const std::byte* row_data(std::int64_t row) const noexcept;

  /// Rows [first, first + count) as floats, row-major: the matrix itself if it is fp32, else
  /// `scratch`, which grows as needed.
  const float* widen(Context& context, std::int64_t first, std::int64_t count,
                     std::vector<float>& scratch) const;

  /// All of it as floats, row-major.
  [[nodiscard]] std::vector<float> floats(Context& context) const;

 private:
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  DType dtype_ = DType::float32;
  AlignedArray<std::byte> data_;
};

}  // namespace kvant::models
