// kvant on Eigen matrices, without a copy: quantize a weight, multiply by an int8 layer, and
// compare with Eigen's own product.

#include <kvant/eigen.hpp>
#include <kvant/fmt.hpp>
#include <kvant/linear.hpp>
#include <kvant/linear_quantizer.hpp>

#include <fmt/core.h>

#include <Eigen/Core>
#include <cstddef>
#include <cstdlib>

int main() {
  using Matrix = kvant::EigenMatrix<float>;  // row-major
  std::srand(7);
  const Matrix x = Matrix::Random(32, 512);
  const Matrix w = Matrix::Random(256, 512) * 0.1f;
  const Eigen::RowVectorXf bias = Eigen::RowVectorXf::Random(256);

  // Views in, views out.
  const auto params =
      kvant::choose_params(kvant::as_view(w), kvant::int8_symmetric, kvant::per_row);
  const auto q = kvant::quantize(kvant::as_view(w), params);
  Matrix back(w.rows(), w.cols());
  kvant::dequantize(q, kvant::as_view(back));
  fmt::print("int8 weights per row: {}\n", kvant::compare(kvant::as_view(w), kvant::as_view(back)));

  // A block of an Eigen matrix is a view with a stride.
  const auto corner = kvant::as_view(w.topLeftCorner(16, 64));
  const auto small = kvant::quantize(
      corner, kvant::choose_params(corner, kvant::int4_symmetric, kvant::per_group(32)));
  fmt::print("int4 corner {} x {}: {} bytes instead of {}\n", small.rows(), small.cols(),
             small.memory_footprint(), sizeof(float) * static_cast<std::size_t>(corner.size()));

  // y = x w^T + b by the int8 layer, straight into an Eigen matrix.
  const auto layer = kvant::Int8Linear::quantize(kvant::as_view(w), kvant::as_view(bias));
  Matrix y(x.rows(), w.rows());
  layer.forward(kvant::as_view(x), kvant::as_view(y));
  const Matrix want = (x * w.transpose()).rowwise() + bias;
  fmt::print("int8 layer against Eigen's product: {}\n",
             kvant::compare(kvant::as_view(want), kvant::as_view(y)));

  // And back: any view is an Eigen::Map.
  fmt::print("largest dequantized weight: {:.4f}\n",
             kvant::as_eigen(kvant::dequantize<float>(q)).cwiseAbs().maxCoeff());
}
