// kvant/eigen.hpp and kvant/fmt.hpp.

#include <Eigen/Core>
#include <type_traits>
#include <vector>

#include "kvant/eigen.hpp"
#include "kvant/fmt.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"

using kvant::MatrixView;

TEST_CASE("Eigen objects are seen where they are") {
  kvant::EigenMatrix<float> m(3, 4);
  for (Eigen::Index i = 0; i < 12; ++i) m.data()[i] = static_cast<float>(i);
  const auto view = kvant::as_view(m);
  STATIC_REQUIRE(std::is_same_v<decltype(view), const MatrixView<float>>);
  CHECK(view.data() == m.data());
  CHECK(view.rows() == 3);
  CHECK(view.cols() == 4);
  CHECK(view(2, 1) == m(2, 1));

  const auto& constant = m;
  STATIC_REQUIRE(std::is_same_v<decltype(kvant::as_view(constant)), MatrixView<const float>>);
  const Eigen::Ref<const kvant::EigenMatrix<float>> ref(m);
  STATIC_REQUIRE(std::is_same_v<decltype(kvant::as_view(ref)), MatrixView<const float>>);

  const auto block = kvant::as_view(m.block(1, 1, 2, 2));  // a temporary, but not its memory
  CHECK(block.stride() == 4);
  CHECK(block(1, 1) == m(2, 2));
  block(0, 0) = 100;
  CHECK(m(1, 1) == 100);

  std::vector<float> storage(20);
  Eigen::Map<kvant::EigenMatrix<float>, 0, Eigen::OuterStride<>> map(storage.data(), 3, 4,
                                                                     Eigen::OuterStride<>(7));
  CHECK(kvant::as_view(map).stride() == 7);
}

TEST_CASE("vectors are one row, column-major matrices only by name") {
  Eigen::VectorXf v(5);
  v << 1, 2, 3, 4, 5;
  const auto row = kvant::as_view(v);
  CHECK(row.rows() == 1);
  CHECK(row.cols() == 5);
  CHECK(row(0, 3) == 4);
  Eigen::MatrixXf column_major(2, 3);
  column_major << 1, 2, 3, 4, 5, 6;
  const auto transposed = kvant::as_transposed_view(column_major);
  CHECK(transposed.rows() == 3);
  CHECK(transposed.cols() == 2);
  CHECK(transposed(2, 0) == 3);
  kvant::EigenMatrix<float> m(2, 6);
  m.setZero();
  Eigen::Map<kvant::EigenMatrix<float>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> apart(
      m.data(), 2, 3, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(6, 2));
  CHECK_THROWS_WITH(kvant::as_view(apart), Catch::Contains("2 apart"));
}

TEST_CASE("views become Eigen maps") {
  kvant::Matrix<float> m(2, 3, {1, 2, 3, 4, 5, 6});
  auto map = kvant::as_eigen(m);
  CHECK(map(1, 2) == 6);
  map(0, 0) = 9;
  CHECK(m(0, 0) == 9);
  const auto& constant = m;
  CHECK(kvant::as_eigen(constant).sum() == 29);
  const MatrixView<const float> part(m.data() + 1, 2, 2, 3);
  CHECK(kvant::as_eigen(part)(1, 1) == 6);

  kvant::EigenMatrix<Eigen::half> half(1, 2);
  half << Eigen::half(0.5f), Eigen::half(-2.0f);
  const auto view = kvant::as_view(half);
  STATIC_REQUIRE(std::is_same_v<decltype(view), const MatrixView<kvant::float16>>);
  CHECK(static_cast<float>(view(0, 1)) == -2.0f);
  CHECK(static_cast<float>(kvant::as_eigen(view)(0, 0)) == 0.5f);
}

TEST_CASE("Eigen in, quantized, Eigen out") {
  const kvant::EigenMatrix<float> x = kvant::EigenMatrix<float>::Random(20, 30);
  const auto view = kvant::as_view(x);
  const auto q =
      kvant::quantize(view, kvant::choose_params(view, kvant::int8_symmetric, kvant::per_row));
  kvant::EigenMatrix<float> y(20, 30);
  kvant::dequantize(q, kvant::as_view(y));
  CHECK((x - y).cwiseAbs().maxCoeff() <= 0.5f / 127 * 1.001f);
}

TEST_CASE("everything prints") {
  CHECK(fmt::format("{}", kvant::DType::bfloat16) == "bfloat16");
  CHECK(fmt::format("{:>10}|", kvant::DType::int8) == "      int8|");
  CHECK(fmt::format("{:.3f}", kvant::bfloat16(1.0f / 3)) == "0.334");
  CHECK(fmt::format("{} {}", kvant::float16(0.5f), kvant::float8_e4m3fn(448)) == "0.5 448");
  CHECK(fmt::format("{:+d}", kvant::int4(3)) == "+3");
  CHECK(fmt::format("{}", kvant::ErrorCode::shape_mismatch) == "shape_mismatch");
  CHECK(fmt::format("{}", kvant::iinfo<std::int8_t>()) == "iinfo(min=-128, max=127, dtype=int8)");
  CHECK(fmt::format("{}", kvant::finfo<kvant::float16>()).substr(0, 23) ==
        "finfo(resolution=0.001,");
  CHECK(fmt::format("{} {} {}", kvant::per_tensor, kvant::per_group(128), kvant::per_block(2, 3)) ==
        "tensor group of 128 block 2x3");
  CHECK(fmt::format("{}", kvant::ErrorMetrics{}) == "max 0, mean 0, mse 0, sqnr 0 dB, cosine 1");
}
