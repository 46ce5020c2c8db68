#pragma once

// What the forms of GPTQ, AWQ and compressed-tensors share: codes of 2, 3, 4 or 8 bits packed into
// words of 32, and for each group of an output's inputs a scale and a zero point, packed too.
// Value: (q - z) * scale.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/layers/group_config.hpp"
#include "io/layers/stored_format.hpp"
#include "io/layers/values.hpp"

namespace kvant::io {

inline constexpr std::string_view kPackedCodes = ".qweight";
inline constexpr const char* kPackedZeros = ".qzeros";
inline constexpr const char* kGroupScales = ".scales";
inline constexpr const char* kGroupIndex = ".g_idx";

/// How words lie in a file; K inputs, N outputs, G groups, b bits.
enum class GroupPacking : std::uint8_t {
  /// qweight [K b / 32, N]: an output's codes down a column, the first in the lowest bits; qzeros
  /// [G, N b / 32]; scales [G, N]; g_idx [K], or group k / (K / G).
  gptq,
  /// qweight [K, N / 8]: 8 outputs a word in the order 0 2 4 6 1 3 5 7; qzeros [G, N / 8] the same;
  /// scales [G, N].
  awq_gemm,
  /// qweight [N, K / 8]: 8 inputs a word in their order; qzeros [N, z] the same; scales [N, 8 z],
  /// of which the first G count.
  awq_gemv,
  /// weight_packed [N, ceil(K b / 32)]: an output's codes one after the other, the first in the
  /// lowest bits; zero points packed so down the outputs, [ceil(N b / 32), G]; scales [N, G].
  by_rows,
};

struct PackedGroups {
  GroupPacking packing = GroupPacking::gptq;
  int bits = 4;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t groups = 0;

  /// Words of an output, where it has words of its own.
  [[nodiscard]] std::int64_t row_words() const noexcept { return (inputs * bits + 31) / 32; }
};

/// AWQ's order: where output i of 8 lies in a word, in units of 4 bits.
inline constexpr std::array<int, 8> kAwqOrder{0, 4, 1, 5, 2, 6, 3, 7};

/// Field `index` of a stream of fields of `bits` bits, in words `step` apart of which the first is
/// at `first`.
[[nodiscard]] unsigned packed_field(std::span<const std::byte> bytes, std::int64_t first,
                                    std::int64_t step, std::int64_t index, int bits) noexcept;

/// The same of 4 bits in AWQ's order.
[[nodiscard]] unsigned awq_field(std::span<const std::byte> bytes, std::int64_t first,
                                 std::int64_t index) noexcept;

/// How the words of a claimed weight lie, by the shapes of its tensors; gptq where they fit
/// nothing.
[[nodiscard]] GroupPacking group_packing_of(const FindTensor& find, const TensorInfo& weight,
                                            const std::string& layer);

/// Shapes and types of NAME.qweight and its parts.
/// @param layer  NAME
/// @param groups of awq_gemv, whose tensors are padded: 0 where they are not known
/// @throws FormatError bad_scales, size, missing_scales: parts that are missing or do not fit
[[nodiscard]] PackedGroups packed_groups_of(const FindTensor& find, const TensorInfo& weight,
                                            const std::string& layer, GroupPacking packing,
                                            std::int64_t groups = 0);

/// Of each [group][output].
struct GroupValues {
  std::vector<float> scales;
  std::vector<std::uint16_t> zeros;  ///< as stored: what is to be added is not
};
/// @throws FormatError bad_scales: a scale that is not finite, or not above 0
[[nodiscard]] GroupValues read_group_values(const FindTensor& find, const std::string& layer,
                                            const PackedGroups& shape);

/// The group of each input where `size` neighbours share one.
[[nodiscard]] std::vector<std::int32_t> groups_of_neighbours(std::int64_t inputs,
                                                             std::int64_t size);

/// The group of each input from an index of groups, I32 [K].
/// @throws FormatError bad_scales: another type or length, a group that there is not, one that no
///         input is in
[[nodiscard]] std::vector<std::int32_t> read_group_index(const TensorView& index,
                                                         const PackedGroups& shape);

/// A layer's weights.
class PackedGroupRows final : public RowDecoder {
 public:
  /// @param group_of of each input
  PackedGroupRows(const PackedGroups& shape, GroupValues values,
                  std::vector<std::int32_t> group_of);

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override;
  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override;
  [[nodiscard]] std::optional<LayerCodes> codes() const override;
  void unpack(std::int64_t first_row, std::int64_t rows, std::span<const std::byte> bytes,
              std::uint8_t* out) const override;

  [[nodiscard]] const PackedGroups& shape() const noexcept { return shape_; }
  /// With the zero points as they count.
  [[nodiscard]] const GroupValues& values() const noexcept { return values_; }
  /// How many neighbours share a group, group after group; 0: they do not lie so.
  [[nodiscard]] std::int64_t group_size() const noexcept;

 private:
  /// Calls each(r, c, k, n, code) for a block.
  template <class Each>
  void for_codes(const WeightBlock& block, std::span<const std::byte> bytes, Each each) const;

  PackedGroups shape_;
  GroupValues values_;
  std::vector<std::int32_t> group_of_;
  /// Where each input lies when those of a group are neighbours, group after group; empty: where it
  /// is, or the groups have different sizes.
  std::vector<std::int32_t> place_of_;
};

/// The format whose codes have 2, 3, 4 or 8 bits in groups.
[[nodiscard]] WeightFormat group_format(int bits) noexcept;

/// A layer of this shape, without its parts.
[[nodiscard]] StoredLayer packed_groups_layer(const PackedGroups& shape, const TensorInfo& weight);

/// What is wrong with the scales of a layer, as findings of verify.
void verify_group_scales(const TensorView& part, Findings& findings);

}  // namespace kvant::io
