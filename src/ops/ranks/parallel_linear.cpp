#include "kvant/parallel_linear.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/matrix.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/ranks/device_forward.hpp"
#include "ops/ranks/gather_activations.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

/// Rows of a matrix.
ConstAnyMatrix rows_of(const ConstAnyMatrix& m, Share rows) {
  const std::int64_t size = describe(m.dtype).bits / 8;
  return {static_cast<const std::byte*>(m.data) + rows.begin * m.stride * size, m.dtype,
          rows.size(), m.cols, m.stride};
}

ConstAnyMatrix columns_of(const ConstAnyMatrix& m, Share columns) {
  const std::int64_t size = describe(m.dtype).bits / 8;
  return {static_cast<const std::byte*>(m.data) + columns.begin * size, m.dtype, m.rows,
          columns.size(), m.stride};
}

/// Scales are of whole outputs, or of outputs of one rank.
void check_scales(const char* who, WeightFormat format, const PackOptions& packing, Share share,
                  std::int64_t outputs, std::int64_t inputs) {
  const WeightFormatInfo& info = describe(format);
  std::int64_t together = info.block_rows;
  if (info.axis == BlockAxis::flattened) {
    const std::int64_t block = packing.block != 0 ? packing.block : info.block;
    together = block / std::gcd(inputs, block);
  }
  const bool whole = !packing.one_scale && share.begin % together == 0 &&
                     (share.end % together == 0 || share.end == outputs);
  if (whole) return;
  fail(ErrorCode::unsupported,
       std::string(who) + ": outputs of several ranks share a scale in " + std::string(info.name) +
           " (outputs " + std::to_string(share.begin) + " to " + std::to_string(share.end) +
           " of " + std::to_string(outputs) + " are this rank's)");
}

Linear quantize_share(const char* who, Context& context, ConstAnyMatrix weights,
                      WeightFormat format, ConstAnyMatrix bias, const ActivationOptions& options,
                      const PackOptions& packing, Share share) {
  check_float(who, "weights", weights);
  check_bias(who, bias, weights.rows);
  check_scales(who, format, packing, share, weights.rows, weights.cols);
  return Linear::quantize(context, rows_of(weights, share), format,
                          bias.rows != 0 ? columns_of(bias, share) : bias, options, packing);
}

Share checked_share(const char* who, const Ranks& ranks, const Linear& own,
                    std::int64_t out_features) {
  const Share share = share_of(out_features, ranks.rank(), ranks.size());
  if (own.out_features() != share.size()) {
    fail(ErrorCode::shape_mismatch,
         std::string(who) + ": the layer has " + std::to_string(own.out_features()) +
             " outputs; rank " + std::to_string(ranks.rank()) + "'s share of " +
             std::to_string(out_features) + " is " + std::to_string(share.size()));
  }
  return share;
}

/// The same on every rank, whatever its kernels: whole tiles for all of them, and not many pieces,
/// of which each fetches the weights anew.
std::int64_t piece_rows(std::int64_t rows) {
  constexpr std::int64_t kLeast = 96;
  constexpr std::int64_t kMostPieces = 8;
  return std::max(kLeast, (rows + kMostPieces - 1) / kMostPieces);
}

}  // namespace

ColumnParallelLinear::ColumnParallelLinear(Ranks& ranks, Linear own, std::int64_t out_features)
    : own_(std::move(own)),
      share_(checked_share("ColumnParallelLinear", ranks, own_, out_features)),
      out_features_(out_features) {}

ColumnParallelLinear ColumnParallelLinear::quantize(Ranks& ranks, Context& context,
                                                    ConstAnyMatrix weights, WeightFormat format,
                                                    ConstAnyMatrix bias,
                                                    const ActivationOptions& options,
                                                    const PackOptions& packing) {
  return {ranks,
          quantize_share("ColumnParallelLinear::quantize", context, weights, format, bias, options,
                         packing, share_of(weights.rows, ranks.rank(), ranks.size())),
          weights.rows};
}

RowParallelLinear::RowParallelLinear(Ranks& ranks, Linear own,
                                     std::vector<std::int64_t> input_widths,
                                     std::int64_t out_features)
    : ranks_(&ranks),
      own_(std::move(own)),
      input_widths_(std::move(input_widths)),
      output_widths_(share_sizes(out_features, ranks.size())),
      share_(checked_share("RowParallelLinear", ranks, own_, out_features)),
      out_features_(out_features) {
  constexpr const char* kWho = "RowParallelLinear";
  const std::int64_t inputs =
      std::accumulate(input_widths_.begin(), input_widths_.end(), std::int64_t{0});
  if (input_widths_.size() != static_cast<std::size_t>(ranks.size()) ||
      (own_.out_features() > 0 && own_.in_features() != inputs)) {
    fail(ErrorCode::shape_mismatch,
         std::string(kWho) + ": " + std::to_string(input_widths_.size()) + " ranks have " +
             std::to_string(inputs) + " columns of x, the layer takes " +
             std::to_string(own_.in_features()) + " on " + std::to_string(ranks.size()) + " ranks");
  }
  const auto before = input_widths_.begin() + ranks.rank();
  inputs_.begin = std::accumulate(input_widths_.begin(), before, std::int64_t{0});
  inputs_.end = inputs_.begin + *before;
  // A rank without outputs does as the others.
  enum : std::uint32_t { kInFloat = 1, kOnDevice = 2, kOnHost = 4 };
  std::uint32_t found = 0;
  if (own_.out_features() > 0) {
    found = own_.weights().state().memory != nullptr ? kOnDevice : kOnHost;
    if (!takes_codes(own_)) found |= kInFloat;
  }
  ranks.all_or({&found, 1});
  if ((found & kOnDevice) != 0 && (found & kOnHost) != 0) {
    fail(ErrorCode::unsupported,
         std::string(kWho) +
             ": the weights are on a device on some ranks and on the host on "
             "others; all ranks' contexts must be of one kind");
  }
  on_device_ = (found & kOnDevice) != 0;
  codes_ = (found & kInFloat) == 0;
}

RowParallelLinear RowParallelLinear::quantize(Ranks& ranks, Context& context,
                                              ConstAnyMatrix weights, WeightFormat format,
                                              ConstAnyMatrix bias, const ActivationOptions& options,
                                              const PackOptions& packing) {
  return {ranks,
          quantize_share("RowParallelLinear::quantize", context, weights, format, bias, options,
                         packing, share_of(weights.rows, ranks.rank(), ranks.size())),
          share_sizes(weights.cols, ranks.size()), weights.rows};
}

void RowParallelLinear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  constexpr const char* kWho = "RowParallelLinear::forward";
  if (x.cols != inputs_.size()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": x has " + std::to_string(x.cols) +
                                        " columns, rank " + std::to_string(ranks_->rank()) +
                                        "'s are " + std::to_string(inputs_.size()));
  }
  check_result_shape(kWho, y, x.rows, out_features_);
  if (y.rows == 0 || y.cols == 0) return;
  if (on_device_ != (context.memory() != nullptr)) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are on " +
                                     (on_device_ ? "devices" : "the host") +
                                     ", the context runs \"" + context.kernels().name +
                                     "\"; build the layer with the same context");
  }
  if (on_device_) {
    forward_on_devices(kWho, context, *ranks_, own_, x, y, input_widths_, output_widths_);
    return;
  }
  if (x.dtype != DType::float32 || y.dtype != DType::float32) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": x is " + std::string(to_string(x.dtype)) +
                                     ", y " + std::string(to_string(y.dtype)) +
                                     "; on the host both must be float32");
  }
  forward_on_host(context, {static_cast<const float*>(x.data), x.rows, x.cols, x.stride},
                  {static_cast<float*>(y.data), y.rows, y.cols, y.stride});
}

void RowParallelLinear::wait(Context& context) const {
  if (context.memory() != nullptr) ranks_->wait(*context.memory(), context.queue());
}

void RowParallelLinear::forward_on_host(Context& context, MatrixView<const float> x,
                                        MatrixView<float> y) const {
  Matrix<float> own(x.rows(), share_.size());
  QuantizedActivations activations;
  activations.state_ = std::make_unique<QuantizedActivations::State>();
  if (codes_) {
    GatheredActivations gathered = gather_activations(context, *ranks_, own_, x, input_widths_);
    activations.state_->memory = std::move(gathered.memory);
    activations.state_->batch = gathered.batch;
    activations.state_->rules = std::move(gathered.rules);
  } else {
    const std::int64_t inputs =
        std::accumulate(input_widths_.begin(), input_widths_.end(), std::int64_t{0});
    Matrix<float> whole(x.rows(), inputs);
    ranks_->gather_columns(x, input_widths_, whole);
    // An adapter reads x itself; activations of two codes are multiplied all at once.
    if (share_.size() > 0 &&
        (own_.adapter() != nullptr || own_.options().arithmetic == Arithmetic::int15)) {
      own_.forward(context, MatrixView<const float>(whole), MatrixView<float>(own));
      ranks_->gather_columns(own, output_widths_, y, piece_rows(x.rows()), [](Share) {});
      return;
    }
    if (share_.size() > 0) {
      own_.quantize_activations(context, MatrixView<const float>(whole), activations);
    }
  }
  // Outputs of some rows travel while those of the next are computed.
  const RowBlocks blocks = activations.state_->batch.kernels.blocks(x.rows());
  const bool widened =
      share_.size() > 0 && is_widened(context.kernels(), own_.weights(), own_.options().arithmetic);
  std::int64_t done = 0;
  ranks_->gather_columns(own, output_widths_, y, piece_rows(x.rows()), [&](Share rows) {
    std::int64_t end = done;
    // (Who widens weights does so once.)
    while (end < blocks.count() && (blocks.first(end) < rows.end || widened)) ++end;
    if (end == done || share_.size() == 0) return;
    own_.forward_blocks(context, activations, MatrixView<float>(own), done, end);
    done = end;
  });
}

}  // namespace kvant
