#pragma once

/// @file
/// Observers: they see batches and remember the range, from which parameters follow. A range is
/// kept per block, so the same class observes tensors, rows, columns, groups and tiles.

#include "kvant/block_range.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"

namespace kvant {

/// @throws Error not_finite, unsupported (dtype), invalid_argument
[[nodiscard]] KVANT_API BlockRange block_range(Context& context, ConstAnyMatrix x, BlockShape block,
                                               NonFinite non_finite = NonFinite::error);

/// Running minimum and maximum over all batches (torch's MinMaxObserver and
/// PerChannelMinMaxObserver).
class KVANT_API MinMaxObserver {
 public:
  explicit MinMaxObserver(BlockShape block = per_tensor, NonFinite non_finite = NonFinite::error)
      : block_(block), non_finite_(non_finite) {}

  /// @throws Error as block_range; shape_mismatch if the batch has another number of blocks
  void observe(ConstAnyMatrix x);
  void observe(Context& context, ConstAnyMatrix x);

  /// @throws Error invalid_argument where nothing was observed and there is more than one block
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const;
  [[nodiscard]] const BlockRange& range() const noexcept { return range_; }

 private:
  BlockShape block_;
  NonFinite non_finite_;
  BlockRange range_;
};

/// The first batch's range, then m += c * (batch - m) in fp32 (torch's
/// MovingAverageMinMaxObserver).
class KVANT_API MovingAverageObserver {
 public:
  /// @throws Error invalid_argument for c outside (0, 1]
  explicit MovingAverageObserver(float c = 0.01f, BlockShape block = per_tensor,
                                 NonFinite non_finite = NonFinite::error);

  void observe(ConstAnyMatrix x);
  void observe(Context& context, ConstAnyMatrix x);
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const;
  [[nodiscard]] const BlockRange& range() const noexcept { return range_; }

 private:
  float c_;
  BlockShape block_;
  NonFinite non_finite_;
  BlockRange range_;
};

}  // namespace kvant
