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

/// Codes [n, k] packed for the kernels that made it. Kernel sets with the same layout and activation
/// format share packed weights; any other refuses them (the border throws, see packed_for).
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
    return codes_.empty() || (kernels.layout == layout_ && kernels.activation_format == format_);
  }

  [[nodiscard]] const std::int8_t* data() const noexcept { return codes_.data(); }
  /// 128 * the sum of an output's codes, [n padded]; null where the kernels need none.
  [[nodiscard]] const std::int32_t* offsets() const noexcept { return offsets_.data(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return codes_.bytes() + offsets_.bytes(); }

  [[nodiscard]] std::int8_t code(std::int64_t n, std::int64_t k) const noexcept {
    return codes_[static_cast<std::size_t>(layout_.offset(n, k, k_padded_))];
  }

 private:
  WeightLayout layout_;
  CodeFormat format_ = CodeFormat::s8;
  const char* packed_for_ = "";
  std::int64_t n_ = 0;
  std::int64_t k_ = 0;
  std::int64_t k_padded_ = 0;
  AlignedArray<std::int8_t> codes_;
  AlignedArray<std::int32_t> offsets_;
};

/// The longest K whose s8 x s8 dot product fits int32 for every code, -128 included.
inline constexpr std::int64_t kMaxInnerDimension = 131071;

}  // namespace kvant
