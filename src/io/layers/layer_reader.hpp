#pragma once

// A stored linear layer's weights as float32 rows, a block of them at a time: memory is one block,
// whatever the layer's size and form.

#include <cstdint>
#include <optional>
#include <vector>

#include "io/layers/quant_state.hpp"
#include "kvant/config.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"

namespace kvant::io {

class KVANT_API LayerReader {
 public:
  /// @throws FormatError as read_int8_module; structure, size: 4-bit parts that do not fit
  LayerReader(const Checkpoint& checkpoint, const StoredLayer& layer);

  /// Rows [first, first + count) of the [outputs, inputs] weights, row after row into out.
  void read(std::int64_t first, std::int64_t count, float* out) const;

 private:
  void read_floating(std::int64_t first, std::int64_t count, float* out) const;
  void read_transposed(std::int64_t first, std::int64_t count, float* out) const;
  void read_int8(std::int64_t first, std::int64_t count, float* out) const;
  void read_4bit(std::int64_t first, std::int64_t count, float* out) const;
  [[nodiscard]] std::vector<float> floats(const Checkpoint& checkpoint, const std::string& name,
                                          std::uint64_t count) const;
  void load_4bit(const Checkpoint& checkpoint);

  const StoredLayer& layer_;
  std::span<const std::byte> data_;
  std::vector<float> scales_;  ///< 4 bits: absmax of each block
  Int8Module int8_;
  std::vector<float> table_;  ///< 4 bits: the value of each code
  std::optional<QuantState> state_;
};

/// Rows of a block that reads about a MiB of floats; at least one.
[[nodiscard]] KVANT_API std::int64_t rows_per_block(const StoredLayer& layer) noexcept;

}  // namespace kvant::io
