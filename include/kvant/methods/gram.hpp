#pragma once

/// @file
/// GramMatrix: the second moments of a layer's inputs, X^T X summed over batches: what GPTQ calls
/// the Hessian, and what turns an error of weights into an error of outputs.
///
///     kvant::methods::GramMatrix gram(4096);
///     for (const auto& x : batches) gram.observe(context, x);
///     const double loss = kvant::methods::OutputError(context, gram).sum(context, w, quantized);

#include <cstdint>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::methods {

/// X^T X of all rows seen, [features, features], symmetric, in fp32: products are summed in fp32
/// over at most 512 rows, and these sums one after the other. Bytes: 4 * features^2.
class KVANT_API GramMatrix {
 public:
  GramMatrix() = default;
  /// @throws Error invalid_argument (features < 0), out_of_memory
  explicit GramMatrix(std::int64_t features);
  /// From sums that were kept. @throws Error shape_mismatch: not square
  GramMatrix(std::vector<float> sums, std::int64_t features, std::int64_t rows);

  /// A batch of activations [rows, features], fp32, fp16 or bf16. Costs features^2 * rows
  /// multiplications (half of the square), by the context's kernels.
  /// @throws Error shape_mismatch, unsupported (dtype), not_finite (the first such element is
  ///         named), out_of_memory
  void observe(Context& context, ConstAnyMatrix x);
  /// A part of the work, for those who share it: `part` of `parts`. Every part sees all batches;
  /// their sums, put together by take_part(), have the bits of one observer. sums() is not whole
  /// before complete().
  void observe_part(Context& context, ConstAnyMatrix x, int part, int parts);
  /// The sums of a part, and how many there are. @param part of `parts`
  [[nodiscard]] std::vector<float> sums_of_part(int part, int parts) const;
  [[nodiscard]] std::int64_t size_of_part(int part, int parts) const noexcept;
  /// Takes sums_of_part() of another that has seen the same batches.
  /// @throws Error shape_mismatch
  void take_part(std::span<const float> sums, int part, int parts);
  /// Behind the last part.
  void complete() noexcept;
  /// What others observed. The sum's last bits depend on the order of merging.
  /// @throws Error shape_mismatch
  void merge(const GramMatrix& other);

  [[nodiscard]] std::int64_t features() const noexcept { return features_; }
  /// Rows seen.
  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] MatrixView<const float> sums() const noexcept {
    return {sums_.data(), features_, features_};
  }
  /// As after observing x / scales, column by column. @throws Error shape_mismatch
  [[nodiscard]] GramMatrix divided_by(const std::vector<float>& scales) const;

 private:
  template <class Each>
  void for_part(int part, int parts, Each&& each) const;

  std::int64_t features_ = 0;
  std::int64_t rows_ = 0;
  std::vector<float> sums_;
};

/// What replacing a layer's weights by others costs its outputs, summed over all rows seen:
/// |x (w - other)^T|^2. Packs the moments once; any number of threads may ask.
class KVANT_API OutputError {
 public:
  /// @throws Error out_of_memory
  OutputError(Context& context, const GramMatrix& gram);
  /// Of each output, for weights [outputs, features]; `other` may be empty: zeros. Costs outputs *
  /// features^2 multiplications. @throws Error shape_mismatch, out_of_memory
  [[nodiscard]] std::vector<double> each(Context& context, MatrixView<const float> w,
                                         MatrixView<const float> other) const;
  /// Of all outputs.
  [[nodiscard]] double sum(Context& context, MatrixView<const float> w,
                           MatrixView<const float> other) const;

 private:
  Linear moments_;
};

}  // namespace kvant::methods
