#pragma once

// The tensors of a layer in bitsandbytes' 4-bit form, and its weights as floats and as codes.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/layers/quant_state.hpp"
#include "io/layers/stored_format.hpp"

namespace kvant::io {

inline constexpr const char* kAbsmax = ".weight.absmax";
inline constexpr const char* kTable = ".weight.quant_map";
inline constexpr const char* kNestedAbsmax = ".weight.nested_absmax";
inline constexpr const char* kNestedTable = ".weight.nested_quant_map";
inline constexpr std::array kStates{".weight.quant_state.bitsandbytes__nf4",
                                    ".weight.quant_state.bitsandbytes__fp4"};
inline constexpr std::uint64_t kTableSize = 16;
inline constexpr std::uint64_t kNestedTableSize = 256;

/// The description of a weight; nothing where there is none.
/// @throws FormatError structure, json, ...
[[nodiscard]] std::optional<QuantState> find_state(const FindTensor& find,
                                                   const std::string& layer);

/// What is said of a weight that has the other parts of the form, and no description.
[[nodiscard]] std::string missing_state(const TensorInfo& weight);

/// The values of nf4's or fp4's codes as bitsandbytes stores them, without -0.
[[nodiscard]] std::vector<float> codebook_values(WeightFormat format);

class FourBitRows final : public RowDecoder {
 public:
  /// @throws FormatError structure, size, bad_scales (an absmax that is not finite)
  FourBitRows(const Checkpoint& checkpoint, const std::string& layer);
  FourBitRows(const QuantState& state, std::vector<float> scales)
      : state_(state), scales_(std::move(scales)), table_(codebook_values(state.format)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override;
  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override;
  /// With absmax as it counts, nested or not; only where the table is the format's own.
  [[nodiscard]] std::optional<LayerCodes> codes() const override;
  void unpack(std::int64_t first_row, std::int64_t rows, std::span<const std::byte> bytes,
              std::uint8_t* out) const override;

 private:
  void check_scales(const std::string& layer) const;
  [[nodiscard]] float rounded(float value) const;

  QuantState state_;
  std::vector<float> scales_;  ///< absmax of each block
  std::vector<float> table_;   ///< the value of each code
};

}  // namespace kvant::io
