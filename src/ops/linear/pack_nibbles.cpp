// Packing codes of 4 bits: NibblePanels, the scales of a group in front of its codes.

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "formats/rules.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/float_element.hpp"
#include "ops/linear/packed_state.hpp"

namespace kvant {

NibblePanels PackedWeights::State::nibbles() const noexcept {
  const std::int32_t scale_bytes = describe(describe(format).scale).bits / 8;
  return {.nr = layout().nr,
          .kr = layout().kr == 32 ? 32 : 8,
          .align = layout().align,
          .k_padded = k_padded,
          .group = group == 0 ? k_padded : group,
          .scale_bytes = group == 0 ? 0 : scale_bytes,
          .zero_points = zero_points && group != 0};
}

std::int64_t PackedWeights::State::group_for(WeightFormat format, std::int64_t k,
                                             std::int64_t k_padded, std::int64_t block) noexcept {
  if (k == 0) return 64;
  const bool own_groups = describe(format).panels() == PanelKind::groups;
  if (own_groups && format != WeightFormat::int8_group) return block;
  if (describe(format).axis == BlockAxis::row) return block == 0 || block >= k ? k_padded : block;
  // Blocks of the flattened weight: what of a row lies within one, at whatever block it begins.
  const std::int64_t common = std::gcd(k, block);
  return common % 32 == 0 ? common : 0;
}

namespace detail {
namespace {

/// One output for kr = 32, into zeros.
void pack_row_of_nibbles(const NibblePanels& w, const std::byte* codes, std::int64_t k,
                         std::byte* to) noexcept {
  for (std::int64_t first = 0; first < k; first += 32) {
    std::byte run[32] = {};  // the last one may be short
    std::memcpy(run, codes + first,
                static_cast<std::size_t>(std::min<std::int64_t>(32, k - first)));
    for (std::int64_t i = 0; i < 16; i += 4) {
      std::uint32_t halves[2];
      std::memcpy(&halves[0], run + i, 4);
      std::memcpy(&halves[1], run + 16 + i, 4);
      const std::uint32_t bytes = (halves[0] & 0x0F0F0F0Fu) | (halves[1] & 0x0F0F0F0Fu) << 4;
      std::memcpy(to + w.code_at(0, first + i), &bytes, sizeof(bytes));
    }
  }
}

}  // namespace

void PackedWeightsBuilder::pack_nibbles(std::int64_t panel, const std::byte* codes,
                                        std::int64_t rows, std::ptrdiff_t stride) noexcept {
  const PackedWeights::State& s = *state_;
  const NibblePanels w = s.nibbles();
  std::byte* const to = codes_ + panel * w.panel_bytes();
  std::memset(to, 0, static_cast<std::size_t>(w.panel_bytes()));
  if (w.kr == 32) return pack_row_of_nibbles(w, codes, s.k, to);
  for (std::int64_t first = 0; first < s.k; first += w.group) {
    const std::int64_t last = std::min(s.k, first + w.group);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* from = codes + r * stride + first;
      std::byte* at = to + w.code_at(r, first);
      for (std::int64_t k = first; k < last; k += 8, from += 8, at += w.nr * 4) {
        std::uint32_t halves[2] = {0, 0};
        std::memcpy(halves, from, static_cast<std::size_t>(std::min<std::int64_t>(8, last - k)));
        const std::uint32_t bytes = (halves[0] & 0x0F0F0F0Fu) | (halves[1] & 0x0F0F0F0Fu) << 4;
        std::memcpy(at, &bytes, sizeof(bytes));
      }
    }
  }
}

void PackedWeightsBuilder::set_scales(std::int64_t row, const float* scales,
                                      const std::uint8_t* zeros) noexcept {
  const PackedWeights::State& s = *state_;
  if (s.is_groups()) return set_group_scales(row, scales);
  if (!s.has_inline_scales()) {
    std::copy_n(scales, s.row_scales(), scales_ + row * s.row_scales());
    return;
  }
  const WeightFormatInfo& info = describe(s.format);
  const NibblePanels w = s.nibbles();
  const RowScales of = {scales, zeros, s.block, phase_of(info, row, s.k, s.block)};
  std::byte* const panel = codes_ + row / w.nr * w.panel_bytes();
  for (std::int64_t k = 0; k < s.k; k += w.group) {
    store_element(panel + w.scale_at(row % w.nr, k), info.scale, 0, scales[of.at(k)]);
    if (w.zero_points) panel[w.zero_at(row % w.nr, k)] = static_cast<std::byte>(zeros[of.at(k)]);
  }
}

void PackedWeightsBuilder::nest_absmax() {
  const PackedWeights::State& s = *state_;
  if (s.n == 0 || s.k == 0) return;
  const auto row_scales = static_cast<std::size_t>(s.row_scales());
  const auto count = static_cast<std::size_t>(describe(s.format).scales(s.n, s.k, s.block));
  // Rows share the blocks that cross them; the last ones have room for more than there are.
  std::vector<float> absmax(count + row_scales);
  std::vector<std::uint8_t> zeros(row_scales);
  const auto of_row = [&](std::int64_t row) { return absmax.data() + row * s.k / s.block; };
  for (std::int64_t r = 0; r < s.n; ++r) s.unpack_scales(r, of_row(r), zeros.data());
  absmax.resize(count);
  absmax = bitsandbytes::unnest_absmax(bitsandbytes::nest_absmax(absmax));
  absmax.resize(count + row_scales);
  for (std::int64_t r = 0; r < s.n; ++r) set_scales(r, of_row(r), zeros.data());
}

}  // namespace detail
}  // namespace kvant
