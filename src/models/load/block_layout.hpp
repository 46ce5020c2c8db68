#pragma once

// The linear layers of a block: which there are, what they are called, and their shapes.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/architecture.hpp"
#include "kvant/models/block.hpp"
#include "kvant/models/split.hpp"

namespace kvant::models {

/// One linear layer of a block: name (from the block on), shape, and where it goes.
struct LinearSpec {
  std::string name;
  std::int64_t outputs;
  std::int64_t inputs;
  bool bias;
  std::unique_ptr<LinearLayer>* slot;
  bool stays_float = false;  ///< whatever the scheme
  /// Where ranks share the model: the outputs that this one has, in this order; empty: all.
  std::vector<Share> rows = {};
  /// The inputs are split over ranks by these widths, and every rank needs all outputs; empty: all
  /// inputs are on every rank, where the outputs stay.
  std::vector<std::int64_t> input_widths = {};

  /// Outputs that this process has.
  [[nodiscard]] std::int64_t own_outputs() const;
};

/// One of a model's stacks of blocks: what its parts are called.
struct Stack {
  std::string_view blocks;  ///< block n is PREFIX BLOCKS.n
  const io::BlockLinears* linears;
  const PartNames* parts;
  std::int64_t layers;

  /// "encoder.block.3.layer.0.SelfAttention.q": without the prefix.
  [[nodiscard]] std::string name(std::int64_t block, std::string_view part) const;
};

/// In the order in which they run: the encoder beside a decoder is the first of two.
[[nodiscard]] std::vector<Stack> stacks_of(const Config& config, const io::Architecture& names);

/// A block with a place for each of its layers.
[[nodiscard]] Block empty_block(const Config& config, const io::BlockLinears& names);

/// The layers of a block that are quantized, in the order in which they run.
/// @param split a rank's share, which the block is of; null: everything
[[nodiscard]] std::vector<LinearSpec> linears_of(const Config& config,
                                                 const io::BlockLinears& names, Block& block,
                                                 const Split* split = nullptr);

}  // namespace kvant::models
