#include "kvant/packed_matrix.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"

namespace kvant {

PackedMatrix::PackedMatrix(const KernelTable& kernels, std::int64_t n, std::int64_t k)
    : layout_(kernels.layout),
      format_(kernels.activation_format),
      packed_for_(kernels.name),
      n_(n),
      k_(k),
      k_padded_(kernels.layout.padded_k(k)) {
  if (n < 0 || k < 0) {
    throw Error(ErrorCode::invalid_argument, "PackedMatrix: negative shape [" + std::to_string(n) +
                                                 ", " + std::to_string(k) + "]");
  }
  if (k > kMaxInnerDimension) {
    throw Error(ErrorCode::out_of_range,
                "PackedMatrix: " + std::to_string(k) + " inputs; int8 products are summed in int32, " +
                    "which is exact up to " + std::to_string(kMaxInnerDimension));
  }
  const std::int64_t padded_n = layout_.padded_n(n);
  if (k_padded_ > 0 && padded_n > INT64_MAX / k_padded_) {
    throw Error(ErrorCode::out_of_range, "PackedMatrix: [" + std::to_string(n) + ", " +
                                             std::to_string(k) + "] does not fit memory");
  }
  codes_ = AlignedArray<std::int8_t>(static_cast<std::size_t>(padded_n * k_padded_), std::int8_t{0});
  if (format_ == CodeFormat::u8_offset) {
    offsets_ = AlignedArray<std::int32_t>(static_cast<std::size_t>(padded_n), 0);
  }
}

void PackedMatrix::pack_rows(std::int64_t first, MatrixView<const std::int8_t> codes) noexcept {
  const int nr = layout_.nr;
  const int kr = layout_.kr;
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    const std::int64_t n = first + r;
    const std::int8_t* from = codes.row_data(r);
    std::int8_t* to = codes_.data() + layout_.offset(n, 0, k_padded_);
    std::int32_t sum = 0;
    std::int64_t k = 0;
    for (; k + kr <= k_; k += kr, to += nr * kr) {
      for (int i = 0; i < kr; ++i) {
        to[i] = from[k + i];
        sum += from[k + i];
      }
    }
    for (int i = 0; k + i < k_; ++i) {
      to[i] = from[k + i];
      sum += from[k + i];
    }
    if (!offsets_.empty()) offsets_[static_cast<std::size_t>(n)] = 128 * sum;
  }
}

void PackedMatrix::unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const noexcept {
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    std::int8_t* to = codes.row_data(r);
    for (std::int64_t k = 0; k < codes.cols(); ++k) to[k] = code(first + r, k);
  }
}

}  // namespace kvant
