#pragma once

// WeightMatrix: a float matrix kept in fp32, fp16 or bf16, widened block by block where it is used.

#include <cstdint>
#include <kvant/aligned_array.hpp>
#include <kvant/context.hpp>
#include <kvant/io/checkpoint.hpp>
#include <kvant/matrix_view.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gpt_bigcode {

class WeightMatrix {
 public:
  WeightMatrix() = default;
  /// Uninitialised.
  WeightMatrix(std::int64_t rows, std::int64_t cols, kvant::DType dtype);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] kvant::DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return data_.size(); }
  [[nodiscard]] kvant::ConstAnyMatrix view() const noexcept {
    return {data_.data(), dtype_, rows_, cols_, cols_};
  }
  [[nodiscard]] std::byte* row_data(std::int64_t row) noexcept;
  [[nodiscard]] const std::byte* row_data(std::int64_t row) const noexcept;

  /// Rows [first, first + count) as floats, row-major: the matrix itself if it is fp32, else
  /// `scratch`, which grows as needed.
  const float* widen(kvant::Context& context, std::int64_t first, std::int64_t count,
                     std::vector<float>& scratch) const;

 private:
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  kvant::DType dtype_ = kvant::DType::float32;
  kvant::AlignedArray<std::byte> data_;
};

/// Copies a tensor of F32, F16 or BF16 and this very shape out of a checkpoint; as `dtype`, or as
/// it is stored. Pages of the file are given back slice by slice, so that they never add up.
/// @throws kvant::Error invalid_argument (missing), shape_mismatch, unsupported (dtype)
WeightMatrix load_weights(kvant::Context& context, const kvant::io::Checkpoint& checkpoint,
                          const std::string& name, std::int64_t rows, std::int64_t cols,
                          std::optional<kvant::DType> dtype = std::nullopt);

/// Some rows of such a tensor, in the order given, as they are stored.
/// @throws kvant::Error as load_weights, out_of_range (no such row)
WeightMatrix load_rows(const kvant::io::Checkpoint& checkpoint, const std::string& name,
                       std::int64_t rows, std::int64_t cols,
                       const std::vector<std::int64_t>& wanted);

/// A one-dimensional tensor as floats; rounded to bf16 on the way if so asked.
std::vector<float> load_vector(kvant::Context& context, const kvant::io::Checkpoint& checkpoint,
                               const std::string& name, std::int64_t size, bool round_to_bf16);

/// Throws unless the tensor is there with this shape ([size] or [rows, cols]) and float values.
void require_tensor(const kvant::io::Checkpoint& checkpoint, const std::string& name,
                    const std::vector<std::uint64_t>& shape);

}  // namespace gpt_bigcode
