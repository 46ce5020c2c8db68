#include "kvant/methods/gram.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/float_element.hpp"
#include "kvant/linear.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::methods {
namespace {

constexpr std::int64_t kRows = 512;      ///< that are summed in fp32 at once
constexpr std::int64_t kFeatures = 256;  ///< of a tile of the square

/// x as floats, transposed: [features, rows]. @throws Error not_finite
void transpose(const ConstAnyMatrix& x, std::int64_t first, std::int64_t rows,
               std::vector<float>& out) {
  constexpr std::int64_t kTile = 16;
  out.resize(static_cast<std::size_t>(rows * x.cols));
  for (std::int64_t c0 = 0; c0 < x.cols; c0 += kTile) {
    const std::int64_t c1 = std::min(x.cols, c0 + kTile);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = c0; c < c1; ++c) {
        const float value = detail::load_element(x.data, x.dtype, (first + r) * x.stride + c);
        if (!std::isfinite(value)) {
          throw Error(ErrorCode::not_finite,
                      "GramMatrix: activation (" + std::to_string(first + r) + ", " +
                          std::to_string(c) + ") is " + (std::isnan(value) ? "NaN" : "infinite"));
        }
        out[static_cast<std::size_t>(c * rows + r)] = value;
      }
    }
  }
}

}  // namespace

GramMatrix::GramMatrix(std::int64_t features) : features_(features) {
  if (features < 0) {
    throw Error(ErrorCode::invalid_argument,
                "GramMatrix: " + std::to_string(features) + " features");
  }
  try {
    sums_.resize(static_cast<std::size_t>(features) * static_cast<std::size_t>(features));
  } catch (const std::exception&) {
    throw Error(ErrorCode::out_of_memory,
                "GramMatrix: no memory for " + std::to_string(features) + " features squared");
  }
}

GramMatrix::GramMatrix(std::vector<float> sums, std::int64_t features, std::int64_t rows)
    : features_(features), rows_(rows), sums_(std::move(sums)) {
  if (features < 0 || sums_.size() != static_cast<std::size_t>(features * features)) {
    throw Error(ErrorCode::shape_mismatch, "GramMatrix: " + std::to_string(sums_.size()) +
                                               " sums are not the square of " +
                                               std::to_string(features) + " features");
  }
}

/// each(first feature, features) of the panels that a part has: columns of the square's lower half.
template <class Each>
void GramMatrix::for_part(int part, int parts, Each&& each) const {
  for (std::int64_t c = part * kFeatures; c < features_; c += parts * kFeatures) {
    each(c, std::min(kFeatures, features_ - c));
  }
}

/// The other half of the square.
void GramMatrix::complete() noexcept {
  for (std::int64_t i = 0; i < features_; ++i) {
    for (std::int64_t j = i + 1; j < features_; ++j) {
      sums_[static_cast<std::size_t>(i * features_ + j)] =
          sums_[static_cast<std::size_t>(j * features_ + i)];
    }
  }
}

void GramMatrix::observe(Context& context, ConstAnyMatrix x) {
  observe_part(context, x, 0, 1);
  if (x.rows > 0) complete();
}

void GramMatrix::observe_part(Context& context, ConstAnyMatrix x, int part, int parts) {
  if (x.cols != features_) {
    throw Error(ErrorCode::shape_mismatch, "GramMatrix: x has " + std::to_string(x.cols) +
                                               " features, not " + std::to_string(features_));
  }
  if (x.dtype != DType::float32 && x.dtype != DType::float16 && x.dtype != DType::bfloat16) {
    throw Error(ErrorCode::unsupported, "GramMatrix: x is " + std::string(to_string(x.dtype)) +
                                            "; float32, float16 and bfloat16 are possible");
  }
  std::vector<float> columns;
  std::vector<float> tile;
  for (std::int64_t first = 0; first < x.rows; first += kRows) {
    const std::int64_t rows = std::min(kRows, x.rows - first);
    transpose(x, first, rows, columns);
    // A panel of features as weights, all features from it on as activations.
    for_part(part, parts, [&](std::int64_t c, std::int64_t width) {
      const std::int64_t height = features_ - c;
      const float* from = columns.data() + c * rows;
      const Linear panel = Linear::from(PackedWeights::quantize(
          context, MatrixView<const float>(from, width, rows), WeightFormat::float32));
      tile.resize(static_cast<std::size_t>(height * width));
      panel.forward(context, MatrixView<const float>(from, height, rows),
                    MatrixView<float>(tile.data(), height, width));
      for (std::int64_t i = 0; i < height; ++i) {
        float* to = sums_.data() + (c + i) * features_ + c;
        const float* add = tile.data() + i * width;
        // The diagonal tile's upper half is the other's mirror.
        for (std::int64_t j = 0; j < std::min(width, i + 1); ++j) to[j] += add[j];
      }
    });
    rows_ += rows;
  }
}

std::int64_t GramMatrix::size_of_part(int part, int parts) const noexcept {
  std::int64_t size = 0;
  for_part(part, parts,
           [&](std::int64_t c, std::int64_t width) { size += (features_ - c) * width; });
  return size;
}

std::vector<float> GramMatrix::sums_of_part(int part, int parts) const {
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>(size_of_part(part, parts)));
  for_part(part, parts, [&](std::int64_t c, std::int64_t width) {
    for (std::int64_t i = c; i < features_; ++i) {
      const float* from = sums_.data() + i * features_ + c;
      result.insert(result.end(), from, from + width);
    }
  });
  return result;
}

void GramMatrix::take_part(std::span<const float> sums, int part, int parts) {
  if (static_cast<std::int64_t>(sums.size()) != size_of_part(part, parts)) {
    throw Error(ErrorCode::shape_mismatch, "GramMatrix: a part of " + std::to_string(sums.size()) +
                                               " sums, not " +
                                               std::to_string(size_of_part(part, parts)));
  }
  const float* from = sums.data();
  for_part(part, parts, [&](std::int64_t c, std::int64_t width) {
    for (std::int64_t i = c; i < features_; ++i) {
      std::copy_n(from, width, sums_.data() + i * features_ + c);
      from += width;
    }
  });
}

void GramMatrix::merge(const GramMatrix& other) {
  if (other.features_ != features_) {
    throw Error(ErrorCode::shape_mismatch, "GramMatrix: " + std::to_string(other.features_) +
                                               " features merged into " +
                                               std::to_string(features_));
  }
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
  rows_ += other.rows_;
}

GramMatrix GramMatrix::divided_by(const std::vector<float>& scales) const {
  if (static_cast<std::int64_t>(scales.size()) != features_) {
    throw Error(ErrorCode::shape_mismatch, "GramMatrix: " + std::to_string(scales.size()) +
                                               " scales for " + std::to_string(features_) +
                                               " features");
  }
  GramMatrix result = *this;
  for (std::int64_t i = 0; i < features_; ++i) {
    float* row = result.sums_.data() + i * features_;
    for (std::int64_t j = 0; j < features_; ++j) {
      row[j] /= scales[static_cast<std::size_t>(i)] * scales[static_cast<std::size_t>(j)];
    }
  }
  return result;
}

OutputError::OutputError(Context& context, const GramMatrix& gram)
    : moments_(Linear::from(PackedWeights::quantize(context, gram.sums(), WeightFormat::float32))) {
}

std::vector<double> OutputError::each(Context& context, MatrixView<const float> w,
                                      MatrixView<const float> other) const {
  const bool zeros = other.data() == nullptr;
  if ((!zeros && (w.rows() != other.rows() || w.cols() != other.cols())) ||
      w.cols() != moments_.in_features()) {
    throw Error(ErrorCode::shape_mismatch,
                "OutputError: weights [" + std::to_string(w.rows()) + ", " +
                    std::to_string(w.cols()) + "] and [" + std::to_string(other.rows()) + ", " +
                    std::to_string(other.cols()) + "], second moments of " +
                    std::to_string(moments_.in_features()) + " features");
  }
  std::vector<float> difference(static_cast<std::size_t>(w.rows() * w.cols()));
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      difference[static_cast<std::size_t>(r * w.cols() + c)] = w(r, c) - (zeros ? 0 : other(r, c));
    }
  }
  std::vector<float> product(difference.size());
  moments_.forward(context, MatrixView<const float>(difference.data(), w.rows(), w.cols()),
                   MatrixView<float>(product.data(), w.rows(), w.cols()));
  std::vector<double> result(static_cast<std::size_t>(w.rows()));
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    double sum = 0;
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      const auto at = static_cast<std::size_t>(r * w.cols() + c);
      sum += static_cast<double>(difference[at]) * static_cast<double>(product[at]);
    }
    result[static_cast<std::size_t>(r)] = std::max(sum, 0.0);
  }
  return result;
}

double OutputError::sum(Context& context, MatrixView<const float> w,
                        MatrixView<const float> other) const {
  double total = 0;
  for (const double error : each(context, w, other)) total += error;
  return total;
}

}  // namespace kvant::methods
