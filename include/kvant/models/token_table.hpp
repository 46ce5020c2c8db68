#pragma once

/// @file
/// TokenTable: the embeddings of tokens, in floats or in any weight format, and the head that may
/// share them.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/models/weight_matrix.hpp"

namespace kvant::models {

/// A row for each token. Codes are never expanded as a whole: a row that is looked up is decoded, a
/// product with all rows (the head) goes through Linear, by int8 activations or exactly as its
/// options say.
class KVANT_API TokenTable {
 public:
  TokenTable() = default;
  explicit TokenTable(WeightMatrix floats) : floats_(std::move(floats)) {}
  /// @param codes  without a bias or an adapter
  explicit TokenTable(Linear codes) : codes_(std::move(codes)) {}

  [[nodiscard]] std::int64_t rows() const noexcept {
    return is_coded() ? codes_.out_features() : floats_.rows();
  }
  /// Width of a row; 0: there is no table (a rank's share of one may have no rows).
  [[nodiscard]] std::int64_t cols() const noexcept {
    return codes_.in_features() > 0 ? codes_.in_features() : floats_.cols();
  }
  [[nodiscard]] bool is_coded() const noexcept { return codes_.out_features() > 0; }
  /// How codes are held; meaningless of floats.
  [[nodiscard]] WeightFormat format() const noexcept { return codes_.format(); }
  /// As held, without padding.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return is_coded() ? codes_.weight_bytes() : floats_.bytes();
  }

  /// One row as floats: the table's own if it is fp32, else `scratch`, which grows as needed.
  const float* row(Context& context, std::int64_t id, std::vector<float>& scratch) const;
  /// y [M, rows] = x times the table, + bias (if any).
  void multiply(Context& context, MatrixView<const float> x, const std::vector<float>& bias,
                MatrixView<float> y) const;

 private:
  WeightMatrix floats_;
  Linear codes_;
};

}  // namespace kvant::models
