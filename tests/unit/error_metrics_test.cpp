// compare: the figures by hand, and what there is to say of zeros, NaN and nothing.

#include <cmath>
#include <vector>

#include "kvant/error_metrics.hpp"
#include "support/catch.hpp"

using kvant::MatrixView;

TEST_CASE("error metrics") {
  const std::vector<float> a{1, 2, 3, 4};
  const std::vector<float> b{1, 2, 3, 5};
  const MatrixView<const float> x(a.data(), 2, 2);
  const MatrixView<const float> y(b.data(), 2, 2);
  const kvant::ErrorMetrics m = kvant::compare(x, y);
  CHECK(m.count == 4);
  CHECK(m.max == 1);
  CHECK(m.mean == 0.25);
  CHECK(m.mse == 0.25);
  CHECK(m.sqnr_db == Approx(10 * std::log10(30.0)));
  CHECK(m.cosine == Approx(34 / std::sqrt(30.0 * 39.0)));
  CHECK(std::isinf(kvant::compare(x, x).sqnr_db));
  CHECK(kvant::compare(x, x).cosine == Approx(1));
  const std::vector<float> zeros(4, 0.0f);
  const MatrixView<const float> zero(zeros.data(), 2, 2);
  CHECK(kvant::compare(zero, zero).cosine == 1);
  CHECK(kvant::compare(x, zero).cosine == 0);
  CHECK(kvant::compare(x, zero).sqnr_db == 0);
  const std::vector<float> broken{1, NAN, 3, 4};
  CHECK(std::isnan(kvant::compare(x, MatrixView<const float>(broken.data(), 2, 2)).max));
  CHECK(kvant::compare(MatrixView<const float>(), MatrixView<const float>()).count == 0);
  CHECK(kvant::to_string(m) == "max 1, mean 0.25, mse 0.25, sqnr 14.7712 dB, cosine 0.993999");
}
