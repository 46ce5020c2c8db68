// The weights of a layer in packed groups: as floats, and as codes of a weight format.

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/layers/packed_groups.hpp"
#include "kvant/float16.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

/// Word `index` of a tensor at any alignment.
std::uint32_t word(std::span<const std::byte> bytes, std::int64_t index) noexcept {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + index * 4, 4);
  return value;
}

}  // namespace

unsigned packed_field(std::span<const std::byte> bytes, std::int64_t first, std::int64_t step,
                      std::int64_t index, int bits) noexcept {
  const std::int64_t bit = index * bits;
  const auto shift = static_cast<unsigned>(bit % 32);
  std::uint64_t window = word(bytes, first + bit / 32 * step);
  if (shift + static_cast<unsigned>(bits) > 32) {
    window |= static_cast<std::uint64_t>(word(bytes, first + (bit / 32 + 1) * step)) << 32;
  }
  return static_cast<unsigned>(window >> shift) & ((1u << bits) - 1);
}

unsigned awq_field(std::span<const std::byte> bytes, std::int64_t first,
                   std::int64_t index) noexcept {
  return word(bytes, first + index / 8) >> (4 * kAwqOrder[static_cast<std::size_t>(index % 8)]) &
         15u;
}

PackedGroupRows::PackedGroupRows(const PackedGroups& shape, GroupValues values,
                                 std::vector<std::int32_t> group_of)
    : shape_(shape), values_(std::move(values)), group_of_(std::move(group_of)) {
  if (group_size() > 0 || shape_.groups == 0) return;
  std::vector<std::int64_t> members(static_cast<std::size_t>(shape_.groups));
  for (const std::int32_t group : group_of_) ++members[static_cast<std::size_t>(group)];
  const std::int64_t size = members.front();
  const bool even = std::all_of(members.begin(), members.end() - 1,
                                [&](std::int64_t count) { return count == size; });
  if (!even || members.back() > size) return;
  std::vector<std::int32_t> next(members.size());
  for (std::size_t g = 0; g < next.size(); ++g) {
    next[g] = static_cast<std::int32_t>(static_cast<std::int64_t>(g) * size);
  }
  for (const std::int32_t group : group_of_) {
    place_of_.push_back(next[static_cast<std::size_t>(group)]++);
  }
}

RowDecoder::Range PackedGroupRows::bytes_of(std::int64_t first_row, std::int64_t rows) const {
  if (shape_.packing == GroupPacking::awq_gemv || shape_.packing == GroupPacking::by_rows) {
    const auto row = static_cast<std::uint64_t>(shape_.row_words() * 4);
    return {static_cast<std::uint64_t>(first_row) * row, static_cast<std::uint64_t>(rows) * row};
  }
  return {0, static_cast<std::uint64_t>(shape_.inputs * shape_.outputs * shape_.bits / 8)};
}

template <class Each>
void PackedGroupRows::for_codes(const WeightBlock& block, std::span<const std::byte> bytes,
                                Each each) const {
  const auto with = [&](auto code_of) {
    for (std::int64_t c = 0; c < block.cols; ++c) {
      const std::int64_t k = block.first_col + c;
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const std::int64_t n = block.first_row + r;
        each(r, c, k, n, static_cast<std::int32_t>(code_of(k, n)));
      }
    }
  };
  switch (shape_.packing) {
    case GroupPacking::gptq:
      with([&](std::int64_t k, std::int64_t n) {
        return packed_field(bytes, n, shape_.outputs, k, shape_.bits);
      });
      break;
    case GroupPacking::awq_gemm:
      with([&](std::int64_t k, std::int64_t n) {
        return awq_field(bytes, k * (shape_.outputs / 8), n);
      });
      break;
    case GroupPacking::awq_gemv:
    case GroupPacking::by_rows:
      with([&](std::int64_t k, std::int64_t n) {
        return packed_field(bytes, (n - block.first_row) * shape_.row_words(), 1, k, shape_.bits);
      });
      break;
  }
}

void PackedGroupRows::decode(const WeightBlock& block, std::span<const std::byte> bytes,
                             float* out) const {
  for_codes(block, bytes,
            [&](std::int64_t r, std::int64_t c, std::int64_t k, std::int64_t n, std::int32_t code) {
              const std::int64_t group = group_of_[static_cast<std::size_t>(k)];
              const auto at = static_cast<std::size_t>(group * shape_.outputs + n);
              out[r * block.cols + c] =
                  static_cast<float>(code - static_cast<std::int32_t>(values_.zeros[at])) *
                  values_.scales[at];
            });
}

std::int64_t PackedGroupRows::group_size() const noexcept {
  std::int64_t size = 0;
  while (size < shape_.inputs && group_of_[static_cast<std::size_t>(size)] == 0) ++size;
  for (std::int64_t k = 0; k < shape_.inputs && size > 0; ++k) {
    if (group_of_[static_cast<std::size_t>(k)] != k / size) return 0;
  }
  return size;
}

std::optional<LayerCodes> PackedGroupRows::codes() const {
  constexpr std::int64_t kMaxBlock = std::int64_t{1} << 20;
  LayerCodes codes{.format = group_format(shape_.bits)};
  const std::int64_t size =
      place_of_.empty() ? group_size() : std::count(group_of_.begin(), group_of_.end(), 0);
  codes.block = size >= shape_.inputs ? (shape_.inputs + 31) / 32 * 32 : size;
  if (size == 0 || codes.block % 32 != 0 || codes.block > kMaxBlock ||
      shape_.inputs > kMaxInnerDimension) {
    return std::nullopt;
  }
  const std::uint16_t middle = static_cast<std::uint16_t>(1u << (shape_.bits - 1));
  const bool symmetric = std::all_of(values_.zeros.begin(), values_.zeros.end(),
                                     [&](std::uint16_t zero) { return zero == middle; });
  // int8 has no zero points; less the middle its codes are signed.
  if (shape_.bits == 8 && !symmetric) return std::nullopt;
  const bool fits = std::all_of(values_.scales.begin(), values_.scales.end(), [](float scale) {
    return static_cast<float>(float16(scale)) == scale;
  });
  if (!fits) return std::nullopt;
  codes.order.resize(place_of_.size());
  for (std::size_t k = 0; k < place_of_.size(); ++k) {
    codes.order[static_cast<std::size_t>(place_of_[k])] = static_cast<std::int32_t>(k);
  }
  codes.scales.resize(values_.scales.size());
  if (!symmetric) codes.zero_points.resize(values_.scales.size());
  for (std::int64_t n = 0; n < shape_.outputs; ++n) {
    for (std::int64_t g = 0; g < shape_.groups; ++g) {
      const auto to = static_cast<std::size_t>(n * shape_.groups + g);
      const auto from = static_cast<std::size_t>(g * shape_.outputs + n);
      codes.scales[to] = values_.scales[from];
      if (!symmetric) codes.zero_points[to] = static_cast<std::uint8_t>(values_.zeros[from]);
    }
  }
  return codes;
}

void PackedGroupRows::unpack(std::int64_t first_row, std::int64_t rows,
                             std::span<const std::byte> bytes, std::uint8_t* out) const {
  const std::int32_t flipped = shape_.bits == 8 ? 0x80 : 0;
  for_codes({first_row, rows, 0, shape_.inputs}, bytes,
            [&](std::int64_t r, std::int64_t c, std::int64_t, std::int64_t, std::int32_t code) {
              const std::int64_t place =
                  place_of_.empty() ? c : place_of_[static_cast<std::size_t>(c)];
              out[r * shape_.inputs + place] = static_cast<std::uint8_t>(code ^ flipped);
            });
}

}  // namespace kvant::io
