#pragma once

/// @file
/// TensorView<T>: a contiguous tensor of any rank, and the matrix that its channels along an axis
/// make, with one block a channel, so that everything that takes matrices takes tensors:
///
///     kvant::TensorView<const float> w(data, {64, 32, 3, 3});    // of a convolution
///     const auto axis = kvant::per_channel(1);
///     auto params = kvant::choose_params(w.matrix(axis), kvant::int8_symmetric, w.block(axis));
///     auto q      = kvant::quantize(w.matrix(axis), params);

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/error.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_scheme.hpp"

namespace kvant {

/// A non-owning, contiguous, row-major tensor.
template <class T>
class TensorView {
 public:
  /// @param shape  sizes, the slowest first; none: one element
  /// @throws Error invalid_argument (a negative size), out_of_range (no such memory),
  /// shape_mismatch
  ///         (data has another number of elements)
  TensorView(std::span<T> data, std::vector<std::int64_t> shape)
      : data_(data.data()), shape_(std::move(shape)) {
    size_ = product(0, shape_.size());
    if (static_cast<std::uint64_t>(size_) != data.size()) {
      detail::fail(ErrorCode::shape_mismatch, "TensorView: the shape " + shape_text() + " has " +
                                                  std::to_string(size_) + " elements, the data " +
                                                  std::to_string(data.size()));
    }
  }
  /// The same from a pointer to `size` elements.
  TensorView(T* data, std::vector<std::int64_t> shape, std::size_t size)
      : TensorView(std::span<T>(data, size), std::move(shape)) {}

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] const std::vector<std::int64_t>& shape() const noexcept { return shape_; }
  [[nodiscard]] int rank() const noexcept { return static_cast<int>(shape_.size()); }
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }

  /// All elements in a matrix whose blocks of shape block(channel) are the channels: [channels,
  /// what follows] where nothing comes before the axis, [what comes before, channels * what
  /// follows] elsewhere.
  /// @throws Error invalid_argument for an axis that is not there
  [[nodiscard]] MatrixView<T> matrix(ChannelAxis channel) const {
    const Fold fold = fold_at(channel);
    if (fold.before == 1) return {data_, fold.channels, fold.after};
    return {data_, fold.before, fold.channels * fold.after};
  }
  /// The blocks of matrix(channel).
  [[nodiscard]] BlockShape block(ChannelAxis channel) const {
    const Fold fold = fold_at(channel);
    if (fold.before == 1) return per_row;
    return {0, fold.after == 0 ? 1 : fold.after};
  }

 private:
  struct Fold {
    std::int64_t before, channels, after;
  };

  [[nodiscard]] Fold fold_at(ChannelAxis channel) const {
    const int axis = channel.axis < 0 ? channel.axis + rank() : channel.axis;
    if (axis < 0 || axis >= rank()) {
      detail::fail(ErrorCode::invalid_argument, "TensorView: the shape " + shape_text() + " has " +
                                                    std::to_string(rank()) + " axes, there is no " +
                                                    std::to_string(channel.axis));
    }
    const auto at = static_cast<std::size_t>(axis);
    return {product(0, at), shape_[at], product(at + 1, shape_.size())};
  }

  /// Of the sizes [first, last).
  [[nodiscard]] std::int64_t product(std::size_t first, std::size_t last) const {
    constexpr std::int64_t kMost = std::int64_t{1} << 56;  // elements; a product that wraps is none
    std::int64_t result = 1;
    std::int64_t reach = 1;  // as if empty sizes were 1: parts of the shape have a product too
    for (std::size_t i = first; i < last; ++i) {
      if (shape_[i] < 0) {
        detail::fail(ErrorCode::invalid_argument,
                     "TensorView: the shape " + shape_text() + " is negative");
      }
      if (shape_[i] > 0 && reach > kMost / shape_[i]) {
        detail::fail(ErrorCode::out_of_range,
                     "TensorView: the shape " + shape_text() + " does not fit an address space");
      }
      result *= shape_[i];
      if (shape_[i] > 0) reach *= shape_[i];
    }
    return result;
  }

  [[nodiscard]] std::string shape_text() const {
    std::string text = "[";
    for (const std::int64_t size : shape_) {
      if (text.size() > 1) text += ", ";
      text += std::to_string(size);
    }
    return text + "]";
  }

  T* data_;
  std::vector<std::int64_t> shape_;
  std::int64_t size_ = 0;
};

}  // namespace kvant
