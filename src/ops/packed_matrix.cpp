#include "kvant/packed_matrix.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "ops/parallel.hpp"

namespace kvant {

PackedMatrix::PackedMatrix(const KernelTable& kernels, std::int64_t n, std::int64_t k)
    : layout_(kernels.layout),
      pair_limit_(kernels.pair_limit),
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
    throw Error(ErrorCode::out_of_range, "PackedMatrix: " + std::to_string(k) +
                                             " inputs; int8 products are summed in int32, " +
                                             "which is exact up to " +
                                             std::to_string(kMaxInnerDimension));
  }
  const std::int64_t padded_n = layout_.padded_n(n);
  if (k_padded_ > 0 && padded_n > INT64_MAX / k_padded_) {
    throw Error(ErrorCode::out_of_range, "PackedMatrix: [" + std::to_string(n) + ", " +
                                             std::to_string(k) + "] does not fit memory");
  }
  codes_ =
      AlignedArray<std::int8_t>(static_cast<std::size_t>(padded_n * k_padded_), std::int8_t{0});
  if (format_ == CodeFormat::u8_offset) {
    offsets_ = AlignedArray<std::int32_t>(static_cast<std::size_t>(padded_n), 0);
  }
}

void PackedMatrix::pack_rows(std::int64_t first, MatrixView<const std::int8_t> codes) noexcept {
  const int nr = layout_.nr;
  const int kr = layout_.kr;
  const std::int64_t groups = k_ / kr;
  // A panel's rows side by side, a cache line of each at a time: reads and writes stay in cache.
  constexpr std::int64_t kLine = 64;
  for (std::int64_t r0 = 0; r0 < codes.rows(); r0 += nr) {
    const std::int64_t rows = std::min<std::int64_t>(nr, codes.rows() - r0);
    for (std::int64_t g0 = 0; g0 < groups; g0 += kLine / kr) {
      const std::int64_t g1 = std::min(groups, g0 + kLine / kr);
      for (std::int64_t r = r0; r < r0 + rows; ++r) {
        const std::int8_t* from = codes.row_data(r);
        std::int8_t* to = codes_.data() + layout_.offset(first + r, 0, k_padded_);
        if (kr == 4) {
          for (std::int64_t g = g0; g < g1; ++g) std::memcpy(to + g * nr * 4, from + g * 4, 4);
        } else {
          for (std::int64_t g = g0; g < g1; ++g) {
            for (int i = 0; i < kr; ++i) to[g * nr * kr + i] = from[g * kr + i];
          }
        }
      }
    }
  }
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    const std::int8_t* from = codes.row_data(r);
    for (std::int64_t k = groups * kr; k < k_; ++k) {
      codes_[static_cast<std::size_t>(layout_.offset(first + r, k, k_padded_))] = from[k];
    }
    if (offsets_.empty()) continue;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < k_; ++k) sum += from[k];
    offsets_[static_cast<std::size_t>(first + r)] = 128 * sum;
  }
}

/// Calls found(code, k, output, excess) for every weight code of a panel that must give some of its
/// value away so that its pair keeps to the limit: equal signs, and together beyond it. In the
/// order of ResidualLists.
template <class Found>
void PackedMatrix::for_each_excess(std::int64_t panel, Found&& found) noexcept {
  const int kr = layout_.kr;
  std::int8_t* group = codes_.data() + layout_.offset(panel * layout_.nr, 0, k_padded_);
  for (std::int64_t k = 0; k < k_padded_; k += kr) {
    for (int n = 0; n < layout_.nr; ++n, group += kr) {
      for (int i = 0; i < kr; i += 2) {
        const int sum = group[i] + group[i + 1];
        // Opposite signs cannot pass the limit: each alone is at most -128 or 127.
        if (sum > pair_limit_) {
          found(group[i + 1], k + i + 1, n, sum - pair_limit_);
        } else if (sum < -pair_limit_) {
          found(group[i + 1], k + i + 1, n, sum + pair_limit_);
        }
      }
    }
  }
}

void PackedMatrix::seal(Context& context) {
  static_assert(kMaxInnerDimension < 1 << 17, "a Residual has 17 bits for k");
  if (pair_limit_ == 0 || n_ == 0) return;
  const std::int64_t operations = panels() * layout_.nr * k_padded_;
  // Beyond this share of pairs the lists cost more than the wider multiplication.
  const std::int64_t too_many = k_padded_ / 2 * layout_.nr / 20;
  residual_begin_ = AlignedArray<std::int64_t>(static_cast<std::size_t>(panels() + 1), 0);
  wide_ = AlignedArray<std::uint8_t>(static_cast<std::size_t>(panels()), std::uint8_t{0});

  detail::parallel(context, panels(), operations, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      std::int64_t count = 0;
      for_each_excess(p, [&](std::int8_t&, std::int64_t, int, int) { ++count; });
      wide_[static_cast<std::size_t>(p)] = count > too_many ? 1 : 0;
      residual_begin_[static_cast<std::size_t>(p + 1)] = count > too_many ? 0 : count;
    }
  });
  std::int64_t* const begins = residual_begin_.data();
  std::partial_sum(begins, begins + panels() + 1, begins);
  residuals_ = AlignedArray<Residual>(
      static_cast<std::size_t>(residual_begin_[static_cast<std::size_t>(panels())]));
  detail::parallel(context, panels(), operations, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      if (wide_[static_cast<std::size_t>(p)] != 0) continue;
      Residual* entry = residuals_.data() + residual_begin_[static_cast<std::size_t>(p)];
      for_each_excess(p, [&](std::int8_t& code, std::int64_t k, int n, int excess) {
        code = static_cast<std::int8_t>(code - excess);
        *entry++ = Residual::of(k, n, excess);
      });
    }
  });
}

void PackedMatrix::unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const noexcept {
  const std::int64_t nr = layout_.nr;
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    const std::int64_t n = first + r;
    std::int8_t* to = codes.row_data(r);
    for (std::int64_t k = 0; k < codes.cols(); ++k) {
      to[k] = codes_[static_cast<std::size_t>(layout_.offset(n, k, k_padded_))];
    }
    if (residual_begin_.empty()) continue;
    const std::int64_t* begin = residual_begin_.data() + n / nr;
    for (std::int64_t i = begin[0]; i < begin[1]; ++i) {
      const Residual& entry = residuals_[static_cast<std::size_t>(i)];
      if (entry.output() != n % nr) continue;
      std::int8_t& code = to[entry.k()];
      code = static_cast<std::int8_t>(code + entry.excess());
    }
  }
}

}  // namespace kvant
