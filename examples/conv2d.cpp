// A 2D convolution in int8: the patches that the kernel sees become rows (im2col), and each group's
// channels an Int8Linear over them. Weights have a scale for each output channel, activations one
// for each patch. Stride, padding, dilation, groups and bias; checked against a float convolution.

#include <fmt/core.h>

#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "kvant/fmt.hpp"
#include "kvant/kvant.hpp"

namespace {

using Tensor = kvant::TensorView<const float>;

struct Geometry {
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  std::int64_t dilation = 1;
  std::int64_t groups = 1;

  /// Outputs along an axis of `size` elements.
  [[nodiscard]] std::int64_t outputs(std::int64_t size, std::int64_t kernel) const {
    const std::int64_t left = size + 2 * padding - dilation * (kernel - 1) - 1;
    return left < 0 ? 0 : left / stride + 1;
  }
};

/// Weights [outputs, inputs / groups, kernel, kernel'], images [images, inputs, height, width].
struct Sizes {
  Sizes(const Tensor& weights, const Tensor& x, const Geometry& g)
      : images(x.shape().at(0)),
        inputs(x.shape().at(1)),
        height(x.shape().at(2)),
        width(x.shape().at(3)),
        outputs(weights.shape().at(0)),
        group_inputs(weights.shape().at(1)),
        kernel_height(weights.shape().at(2)),
        kernel_width(weights.shape().at(3)),
        out_height(g.outputs(height, kernel_height)),
        out_width(g.outputs(width, kernel_width)),
        group_outputs(outputs / g.groups),
        patch(group_inputs * kernel_height * kernel_width) {
    if (inputs != group_inputs * g.groups || outputs % g.groups != 0) {
      throw std::invalid_argument("channels do not fit the weights and groups");
    }
  }
  [[nodiscard]] std::int64_t pixels() const { return out_height * out_width; }
  [[nodiscard]] std::size_t results() const {
    return static_cast<std::size_t>(images * outputs * pixels());
  }
  std::int64_t images, inputs, height, width, outputs, group_inputs, kernel_height, kernel_width;
  std::int64_t out_height, out_width, group_outputs;
  std::int64_t patch;  ///< elements that an output is made of
};

/// What the kernel sees of one image and group: a row [patch] for each pixel of the output, zeros
/// beyond the border.
void im2col(const Tensor& x, const Sizes& s, const Geometry& g, std::int64_t image,
            std::int64_t group, std::vector<float>& rows) {
  rows.assign(static_cast<std::size_t>(s.pixels() * s.patch), 0.0f);
  const float* const plane =
      x.data() + (image * s.inputs + group * s.group_inputs) * s.height * s.width;
  float* to = rows.data();
  for (std::int64_t oy = 0; oy < s.out_height; ++oy) {
    for (std::int64_t ox = 0; ox < s.out_width; ++ox) {
      for (std::int64_t c = 0; c < s.group_inputs; ++c) {
        for (std::int64_t ky = 0; ky < s.kernel_height; ++ky) {
          for (std::int64_t kx = 0; kx < s.kernel_width; ++kx, ++to) {
            const std::int64_t y = oy * g.stride - g.padding + ky * g.dilation;
            const std::int64_t x0 = ox * g.stride - g.padding + kx * g.dilation;
            if (y < 0 || y >= s.height || x0 < 0 || x0 >= s.width) continue;
            *to = plane[(c * s.height + y) * s.width + x0];
          }
        }
      }
    }
  }
}

class Int8Conv2d {
 public:
  Int8Conv2d(const Tensor& weights, const std::vector<float>& bias, const Geometry& geometry)
      : geometry_(geometry) {
    // Output channels are the slowest axis, so a group's are rows that follow each other.
    const auto rows = weights.matrix(kvant::per_channel(0));
    const std::int64_t count = rows.rows() / geometry.groups;
    for (std::int64_t group = 0; group < geometry.groups; ++group) {
      const kvant::MatrixView<const float> own(rows.row_data(group * count), count, rows.cols());
      const kvant::MatrixView<const float> own_bias(bias.data() + group * count, 1, count);
      // threshold 0: patches have no outlier features that are kept apart.
      groups_.push_back(kvant::Int8Linear::quantize(own, own_bias, {.threshold = 0.0f}));
    }
  }

  /// y [images, outputs, height, width]
  void forward(const Tensor& x, const Sizes& s, std::vector<float>& y) const {
    y.resize(s.results());
    std::vector<float> rows;
    std::vector<float> pixels(static_cast<std::size_t>(s.pixels() * s.group_outputs));
    for (std::int64_t image = 0; image < s.images; ++image) {
      for (std::int64_t group = 0; group < geometry_.groups; ++group) {
        im2col(x, s, geometry_, image, group, rows);
        groups_[static_cast<std::size_t>(group)].forward(
            kvant::MatrixView<const float>(rows.data(), s.pixels(), s.patch),
            kvant::MatrixView<float>(pixels.data(), s.pixels(), s.group_outputs));
        float* const to = y.data() + (image * s.outputs + group * s.group_outputs) * s.pixels();
        for (std::int64_t p = 0; p < s.pixels(); ++p) {
          for (std::int64_t o = 0; o < s.group_outputs; ++o) {
            to[o * s.pixels() + p] = pixels[static_cast<std::size_t>(p * s.group_outputs + o)];
          }
        }
      }
    }
  }

  [[nodiscard]] std::size_t weight_bytes() const {
    std::size_t sum = 0;
    for (const kvant::Int8Linear& group : groups_) sum += group.weight_bytes();
    return sum;
  }

 private:
  Geometry geometry_;
  std::vector<kvant::Int8Linear> groups_;
};

/// By the definition, in double; no im2col, so that its mistakes would show.
std::vector<float> float_conv2d(const Tensor& x, const Tensor& w, const std::vector<float>& bias,
                                const Sizes& s, const Geometry& g) {
  std::vector<float> result;
  result.reserve(s.results());
  for (std::int64_t image = 0; image < s.images; ++image) {
    for (std::int64_t o = 0; o < s.outputs; ++o) {
      const std::int64_t first = o / s.group_outputs * s.group_inputs;
      for (std::int64_t oy = 0; oy < s.out_height; ++oy) {
        for (std::int64_t ox = 0; ox < s.out_width; ++ox) {
          double sum = static_cast<double>(bias[static_cast<std::size_t>(o)]);
          for (std::int64_t c = 0; c < s.group_inputs; ++c) {
            for (std::int64_t ky = 0; ky < s.kernel_height; ++ky) {
              for (std::int64_t kx = 0; kx < s.kernel_width; ++kx) {
                const std::int64_t y = oy * g.stride + ky * g.dilation - g.padding;
                const std::int64_t x0 = ox * g.stride + kx * g.dilation - g.padding;
                if (y < 0 || y >= s.height || x0 < 0 || x0 >= s.width) continue;
                const std::int64_t from = ((image * s.inputs + first + c) * s.height + y) * s.width;
                const std::int64_t weight =
                    ((o * s.group_inputs + c) * s.kernel_height + ky) * s.kernel_width + kx;
                sum += static_cast<double>(x.data()[from + x0]) *
                       static_cast<double>(w.data()[weight]);
              }
            }
          }
          result.push_back(static_cast<float>(sum));
        }
      }
    }
  }
  return result;
}

std::vector<float> normals(std::mt19937& random, std::int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// @return whether int8 stays near to the float convolution
bool compare(const char* title, std::int64_t inputs, std::int64_t outputs, std::int64_t kernel,
             const Geometry& g) {
  std::mt19937 random(1);
  const std::int64_t size = 20;
  const std::vector<float> x_values = normals(random, 2 * inputs * size * (size + 3));
  const std::vector<float> w_values =
      normals(random, outputs * inputs / g.groups * kernel * kernel);
  const std::vector<float> bias = normals(random, outputs);
  const Tensor x(x_values, {2, inputs, size, size + 3});
  const Tensor w(w_values, {outputs, inputs / g.groups, kernel, kernel});
  const Sizes s(w, x, g);
  const Int8Conv2d layer(w, bias, g);
  std::vector<float> y;
  layer.forward(x, s, y);
  const std::vector<float> exact = float_conv2d(x, w, bias, s, g);
  const auto count = static_cast<std::int64_t>(y.size());
  const auto error = kvant::compare(kvant::MatrixView<const float>(exact.data(), 1, count),
                                    kvant::MatrixView<const float>(y.data(), 1, count));
  fmt::print("{:<28} {:>3} x {:<3} {:>7} {:>7} {:>10.4f} {:>10.4f} {:>9.1f}\n", title, s.out_height,
             s.out_width, w_values.size() * sizeof(float), layer.weight_bytes(), error.max,
             error.mean, error.sqnr_db);
  return error.sqnr_db > 38;
}

}  // namespace

int main() {
  fmt::print("{:<28} {:>9} {:>7} {:>7} {:>10} {:>10} {:>9}\n", "convolution", "output", "bytes",
             "int8", "max error", "mean error", "SQNR (dB)");
  bool good = compare("3 x 3", 16, 32, 3, {});
  good &= compare("3 x 3, padded", 16, 32, 3, {.padding = 1});
  good &= compare("7 x 7, stride 2, padding 3", 3, 32, 7, {.stride = 2, .padding = 3});
  good &= compare("3 x 3, dilation 2", 16, 32, 3, {.padding = 2, .dilation = 2});
  good &= compare("3 x 3, 4 groups, stride 2", 16, 32, 3, {.stride = 2, .padding = 1, .groups = 4});
  good &= compare("3 x 3, depthwise", 16, 16, 3, {.padding = 1, .groups = 16});
  good &= compare("1 x 1", 64, 48, 1, {});
  fmt::print("{}\n", good ? "all near to the float convolution" : "TOO FAR from the float one");
  return good ? 0 : 1;
}
