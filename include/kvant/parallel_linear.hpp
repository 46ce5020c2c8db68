#pragma once

/// @file
/// ColumnParallelLinear and RowParallelLinear: a linear layer shared by ranks.
///
/// The names are Megatron's (arXiv 1909.08053) for the two layers of an MLP: the first makes the
/// columns that the second reads, and nothing is sent between them. Here both have their weights
/// split by outputs. A row-parallel layer cut along its inputs would sum int32 parts of every
/// output, 4 bytes for each (twice, there and back); the codes of its inputs are 1 byte, and once
/// they have been gathered no sum is cut: every format, groups included, gives the bits of one
/// process, and its weights are whole rows of the file.

#include <cstdint>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/ranks.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// Outputs split: x is whole on every rank, y [M, share] stays where it is made. Nothing is sent.
class KVANT_API ColumnParallelLinear {
 public:
  /// From this rank's outputs, those of share_of(out_features, ...).
  /// @throws Error shape_mismatch: other outputs than its share
  ColumnParallelLinear(Ranks& ranks, Linear own, std::int64_t out_features);
  /// Quantizes this rank's rows of weights [out, in]; bias [1, out] or empty.
  /// @throws Error as Linear::quantize; unsupported: outputs of several ranks share a scale (nf4
  ///         and fp4 where a block crosses rows, fp8-block)
  static ColumnParallelLinear quantize(Ranks& ranks, Context& context, ConstAnyMatrix weights,
                                       WeightFormat format, ConstAnyMatrix bias = {},
                                       const ActivationOptions& options = {},
                                       const PackOptions& packing = {});

  /// y [M, share().size()] = this rank's columns of x W^T + b. @throws Error as Linear::forward
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
    own_.forward(context, x, y);
  }

  /// This rank's outputs.
  [[nodiscard]] Share share() const noexcept { return share_; }
  [[nodiscard]] std::int64_t in_features() const noexcept { return own_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return out_features_; }
  /// The layer of this rank's outputs.
  [[nodiscard]] const Linear& own() const noexcept { return own_; }

 private:
  Linear own_;
  Share share_;
  std::int64_t out_features_ = 0;
};

/// Inputs split: each rank has its columns of x, as a column-parallel layer leaves them, and every
/// rank gets y whole. Integer products exchange, between the two stages of forward, each row's
/// absmax and the flags of outlier features (4 M + K / 8 bytes), then codes and the activations of
/// the few outlier features (M K bytes); float products, and int15 arithmetic, the activations
/// themselves (4 M K). Then y (4 M N), from 97 rows on in pieces of at least 96, each of which
/// travels while the next one is computed (not in int15 arithmetic).
///
/// With weights on devices (all ranks' contexts have a Memory) x and y are there too, of any float
/// type, and travel as they are: from device to device where they are connected, else by way of the
/// hosts. forward returns before y is there: wait() says when it is.
class KVANT_API RowParallelLinear {
 public:
  /// From this rank's outputs, those of share_of(out_features, ...), of all inputs.
  /// All ranks call it.
  /// @param input_widths columns of x on each rank
  /// @throws Error shape_mismatch: other outputs than its share, widths that do not add up;
  ///         unsupported: weights on devices of some ranks alone; as Ranks
  RowParallelLinear(Ranks& ranks, Linear own, std::vector<std::int64_t> input_widths,
                    std::int64_t out_features);
  /// Quantizes this rank's rows of weights [out, in]; bias [1, out] or empty. x comes in the shares
  /// of share_of(in, ...).
  /// @throws Error as ColumnParallelLinear::quantize
  static RowParallelLinear quantize(Ranks& ranks, Context& context, ConstAnyMatrix weights,
                                    WeightFormat format, ConstAnyMatrix bias = {},
                                    const ActivationOptions& options = {},
                                    const PackOptions& packing = {});

  /// y [M, out], on every rank the bits of Linear::forward in one process, from x [M, this rank's
  /// inputs]. All ranks call it, with the same M and types.
  /// @throws Error as Linear::forward and Ranks; unsupported: on the host other types than float32,
  ///         a context of another kind than the weights'
  void forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const;

  /// Waits until y is there: on a device as Ranks::wait, on the host it always is.
  void wait(Context& context) const;

  /// This rank's outputs, and columns of x.
  [[nodiscard]] Share share() const noexcept { return share_; }
  [[nodiscard]] Share inputs() const noexcept { return inputs_; }
  [[nodiscard]] std::int64_t in_features() const noexcept { return own_.in_features(); }
  [[nodiscard]] std::int64_t out_features() const noexcept { return out_features_; }
  /// The layer of this rank's outputs.
  [[nodiscard]] const Linear& own() const noexcept { return own_; }

 private:
  void forward_on_host(Context& context, MatrixView<const float> x, MatrixView<float> y) const;

  Ranks* ranks_;
  bool on_device_ = false;
  bool codes_ = false;  ///< activations travel as codes
  Linear own_;
  std::vector<std::int64_t> input_widths_;
  std::vector<std::int64_t> output_widths_;
  Share share_;
  Share inputs_;
  std::int64_t out_features_ = 0;
};

}  // namespace kvant
