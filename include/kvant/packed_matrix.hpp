#pragma once

/// @file
/// PackedMatrix: owning int8 weight codes in a kernel set's own layout (WeightLayout).

#include <cstddef>
#include <cstdint>

#include "kvant/aligned_array.hpp"
#include "kvant/config.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

class Context;

/// Codes [n, k] packed for the kernels that made it. Kernel sets with the same layout and
/// activation format share packed weights; any other refuses them (the border throws, see
/// packed_for).
class KVANT_API PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Room for n x k codes, all zero.
  /// @throws Error out_of_range (k > 131071: the sums would leave int32), std::bad_alloc
  PackedMatrix(const KernelTable& kernels, std::int64_t n, std::int64_t k);

  /// Packs codes of the outputs [first, first + codes.rows()); first must be a multiple of
  /// layout().nr and codes must fill whole panels, but for the last. Different panels may be packed
  /// at the same time by different threads.
  void pack_rows(std::int64_t first, MatrixView<const std::int8_t> codes) noexcept;

  /// Call once, when all rows are packed: makes the ResidualLists of kernel sets with a pair_limit.
  /// @throws std::bad_alloc
  void seal(Context& context);

  /// Row-major codes of the outputs [first, first + codes.rows()).
  void unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const noexcept;

  [[nodiscard]] std::int64_t n() const noexcept { return n_; }
  [[nodiscard]] std::int64_t k() const noexcept { return k_; }
  [[nodiscard]] std::int64_t k_padded() const noexcept { return k_padded_; }
  [[nodiscard]] std::int64_t panels() const noexcept { return layout_.padded_n(n_) / layout_.nr; }
  [[nodiscard]] const WeightLayout& layout() const noexcept { return layout_; }
  /// The name of the kernel set that packed it.
  [[nodiscard]] const char* packed_for() const noexcept { return packed_for_; }
  [[nodiscard]] bool fits(const KernelTable& kernels) const noexcept {
    return n_ == 0 || (kernels.layout == layout_ && kernels.activation_format == format_ &&
                       kernels.pair_limit == pair_limit_);
  }

  [[nodiscard]] const std::int8_t* data() const noexcept { return codes_.data(); }
  /// 128 * the sum of an output's codes, [n padded]; null where the kernels need none.
  [[nodiscard]] const std::int32_t* offsets() const noexcept { return offsets_.data(); }
  /// Null pointers where the kernels have no pair_limit.
  [[nodiscard]] ResidualLists residuals() const noexcept {
    return {residual_begin_.data(), residuals_.data(), wide_.data()};
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return codes_.bytes() + offsets_.bytes() + residual_begin_.bytes() + residuals_.bytes() +
           wide_.bytes();
  }

 private:
  template <class Found>
  void for_each_excess(std::int64_t panel, Found&& found) noexcept;

  WeightLayout layout_;
  std::int32_t pair_limit_ = 0;
  CodeFormat format_ = CodeFormat::s8;
  const char* packed_for_ = "";
  std::int64_t n_ = 0;
  std::int64_t k_ = 0;
  std::int64_t k_padded_ = 0;
  AlignedArray<std::int8_t> codes_;
  AlignedArray<std::int32_t> offsets_;
  AlignedArray<std::int64_t> residual_begin_;
  AlignedArray<Residual> residuals_;
  AlignedArray<std::uint8_t> wide_;
};

/// The longest K whose s8 x s8 dot product fits int32 for every code, -128 included.
inline constexpr std::int64_t kMaxInnerDimension = 131071;

}  // namespace kvant
