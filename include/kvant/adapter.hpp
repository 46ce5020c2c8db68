#pragma once

/// @file
/// Adapter: a low-rank correction of a linear layer (LoRA, arXiv 2106.09685), in float beside
/// weights of any format.

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// y += scale * (x A^T) B^T, in fp32: the same sums whatever the number of threads. Copies share
/// their weights.
class KVANT_API Adapter {
 public:
  /// Adds nothing.
  Adapter() = default;
  /// @param a [rank, in], @param b [out, rank], each fp32, fp16 or bf16
  /// @throws Error shape_mismatch (ranks that differ), invalid_argument (a scale that is not
  ///         finite), unsupported (dtype, a context of a device), out_of_memory
  Adapter(Context& context, ConstAnyMatrix a, ConstAnyMatrix b, float scale);

  /// @param x [M, in] in fp32, fp16 or bf16; @param y [M, out]
  /// @throws Error shape_mismatch, unsupported (dtype, made for other kernels), out_of_memory
  void add_to(Context& context, ConstAnyMatrix x, MatrixView<float> y) const;

  [[nodiscard]] std::int64_t rank() const noexcept { return a_.out_features(); }
  [[nodiscard]] std::int64_t in_features() const noexcept { return a_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return b_.out_features(); }
  [[nodiscard]] float scale() const noexcept { return scale_; }
  /// Of A and B in fp32.
  [[nodiscard]] std::size_t weight_bytes() const noexcept {
    return a_.weight_bytes() + b_.weight_bytes();
  }
  /// With padding.
  [[nodiscard]] std::size_t memory_footprint() const noexcept {
    return a_.memory_footprint() + b_.memory_footprint();
  }

 private:
  Linear a_;
  Linear b_;
  float scale_ = 0.0f;
};

}  // namespace kvant
