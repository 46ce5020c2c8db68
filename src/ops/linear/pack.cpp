// Packing: rows of elements into panels, and the sums that offset codes need. One pass over the
// codes, half a kilobyte of each row at a time, so that nearly everything happens in the
// first-level cache.

#include <algorithm>
#include <cstring>
#include <string>

#include "ops/linear/interleave.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

/// Bytes of each row that are packed in one go.
constexpr std::int64_t kPiece = 512;
/// Rows are far apart, and half a kilobyte too short a run for the processor to foresee the next.
constexpr std::int64_t kPackAhead = 512;

/// The sum of at most kPiece codes. Offset by 128 they are unsigned, and 16-bit lanes hold the sums
/// of a piece: four operations for 16 codes on every processor.
std::int32_t sum_codes(const std::byte* codes, std::int64_t count) noexcept {
  using Words [[gnu::vector_size(16)]] = std::uint16_t;
  static_assert(kPiece / 16 * 2 * 255 <= UINT16_MAX);
  Words sums = {};
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    Words pairs;
    std::memcpy(&pairs, codes + i, sizeof(pairs));
    pairs ^= std::uint16_t{0x8080};
    sums += (pairs & std::uint16_t{0x00FF}) + (pairs >> 8);
  }
  std::int32_t sum = -128 * static_cast<std::int32_t>(i);
  for (int lane = 0; lane < 8; ++lane) sum += sums[lane];
  for (; i < count; ++i) sum += static_cast<std::int8_t>(codes[i]);
  return sum;
}

}  // namespace

PackedWeightsBuilder::PackedWeightsBuilder(const char* who, const KernelTable& kernels,
                                           WeightFormat format, std::int64_t n, std::int64_t k,
                                           std::int64_t block, bool zero_points, bool wide_scales)
    : state_(std::make_shared<PackedWeights::State>()) {
  PackedWeights::State& s = *state_;
  s.format = format;
  s.kernels = kernels.gemm_for(format);
  s.packed_for = kernels.name;
  s.n = n;
  s.k = k;
  s.k_padded = s.layout().padded_k(k);
  s.block = block;
  s.zero_points = zero_points;
  s.wide_scales = wide_scales;
  if (s.is_groups()) s.group = PackedWeights::State::group_for(format, k, s.k_padded, block);
  if (s.is_nibbles()) {
    if (s.kernels.gemm != nullptr)
      s.group = PackedWeights::State::group_for(format, k, s.k_padded, block);
    if (s.group == 0) {
      s.kernels = {};
      s.kernels.layout.k_pad = 8;
      s.k_padded = s.layout().padded_k(k);
    }
  }
  const WeightFormatInfo& info = describe(format);
  if (kernels.memory != nullptr && s.kernels.gemm == nullptr) {
    std::string what = std::string(who) + ": kernel set \"" + kernels.name + "\" multiplies no " +
                       std::string(info.name) + " weights";
    if (kernels.gemm_for(format).gemm != nullptr) {
      what += " whose blocks of " + std::to_string(block) + " begin in the middle of 32 of the " +
              std::to_string(k) + " inputs of an output";
    }
    fail(ErrorCode::unsupported, what);
  }
  if (!info.is_float()) check_inner_dimension(who, k);
  const std::int64_t padded_n = s.layout().padded_n(n);
  if (s.k_padded > 0 && padded_n > INT64_MAX / 8 / s.k_padded) {
    fail(ErrorCode::out_of_range,
         std::string(who) + ": " + shape_text(n, k) + " does not fit memory");
  }
  codes_ = s.codes.allocate(s.codes_bytes());
  if (!info.is_float() && !s.has_inline_scales()) {
    scales_ = s.scales.allocate_zero(padded_n * s.row_scales());
  }
  if (s.kernels.activations == ActivationFormat::u8_offset) {
    offsets_ = s.offsets.allocate_zero(padded_n);
  }
  if (format == WeightFormat::int8_row) absmax_ = s.absmax.allocate_zero(padded_n);
}

void PackedWeightsBuilder::pack_rows(std::int64_t first, const std::byte* elements,
                                     std::int64_t rows, std::ptrdiff_t stride) noexcept {
  const std::int64_t nr = state_->layout().nr;
  for (std::int64_t r = 0; r < rows; r += nr) {
    pack_panel((first + r) / nr, elements + r * stride, std::min(nr, rows - r), stride);
  }
}

void PackedWeightsBuilder::pack_panel(std::int64_t panel, const std::byte* elements,
                                      std::int64_t rows, std::ptrdiff_t stride) noexcept {
  const PackedWeights::State& s = *state_;
  if (s.k_padded == 0) return;  // no inputs: there is no memory either
  if (s.is_nibbles()) return pack_nibbles(panel, elements, rows, stride);
  if (s.is_groups()) return pack_groups(panel, elements, rows, stride);
  const std::int64_t size = s.element_bytes();
  const std::int64_t nr = s.layout().nr;
  const std::int64_t group = s.layout().kr * size;  // bytes
  const std::int64_t step = nr * group;
  const std::int64_t row_bytes = s.k * size;
  const std::int64_t panel_bytes = nr * s.k_padded * size;
  std::byte* const to = codes_ + panel * panel_bytes;
  std::int32_t* const sums = offsets_ == nullptr ? nullptr : offsets_ + panel * nr;

  if (rows < nr) std::memset(to, 0, static_cast<std::size_t>(panel_bytes));
  const std::int64_t whole = row_bytes / group;
  std::memset(to + whole * step, 0, static_cast<std::size_t>(panel_bytes - whole * step));
  for (std::int64_t byte = 0; byte < row_bytes; byte += kPiece) {
    const std::int64_t count = std::min(kPiece, row_bytes - byte);
    const std::byte* from = elements + byte;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (int line = 0; line < kPiece; line += 64) {
        __builtin_prefetch(from + r * stride + kPackAhead + line);
      }
    }
    if (nr == 1) {
      std::memcpy(to + byte, from, static_cast<std::size_t>(count));
    } else {
      interleave_rows(from, stride, rows, count / group, static_cast<std::int32_t>(group),
                      to + byte / group * step, step);
      if (count % group != 0) {  // the last, short group
        for (std::int64_t r = 0; r < rows; ++r) {
          std::memcpy(to + whole * step + r * group, from + r * stride + count / group * group,
                      static_cast<std::size_t>(count % group));
        }
      }
    }
    if (sums == nullptr) continue;
    for (std::int64_t r = 0; r < rows; ++r) sums[r] += 128 * sum_codes(from + r * stride, count);
  }
}

}  // namespace kvant::detail
