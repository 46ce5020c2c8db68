// What users get wrong, and what is left of objects that were moved away.

#include <kvant/kvant.hpp>

#include <cmath>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/special_floats.hpp"

using kvant::Context;
using kvant::DType;
using kvant::ErrorCode;
using kvant::Matrix;
using kvant::MatrixView;
using kvant::test::code_of;
using kvant::test::kInf;

TEST_CASE("moved-from objects are empty, and can be used and filled again") {
  std::vector<float> x(8 * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) - 6.0f;
  const MatrixView<const float> view(x.data(), 8, 64);

  Matrix<float> matrix(2, 3);
  const Matrix<float> taken = std::move(matrix);
  CHECK(taken.rows() == 2);
  CHECK(matrix.rows() == 0);  // NOLINT: that is the question
  CHECK(matrix.cols() == 0);
  CHECK(matrix.view().empty());
  matrix = Matrix<float>(4, 5);
  CHECK(matrix.rows() == 4);
  Matrix<float>& itself = matrix;
  matrix = std::move(itself);
  Matrix<float> other;
  other = std::move(matrix);
  CHECK(matrix.rows() == 0);  // NOLINT

  auto codes =
      kvant::quantize(view, kvant::choose_params(view, kvant::int8_symmetric, kvant::per_row));
  const auto kept = std::move(codes);
  CHECK(kept.rows() == 8);
  CHECK(codes.rows() == 0);  // NOLINT
  CHECK(codes.cols() == 0);
  CHECK(codes.unpack().empty());
  CHECK(kvant::dequantize<float>(codes).values().empty());
  CHECK(kvant::PackedWeights::from(kvant::default_context(), codes).n() == 0);
  codes = kept;
  CHECK(kvant::dequantize<float>(codes).rows() == 8);

  auto layer = kvant::Int8Linear::quantize(view);
  const auto moved = std::move(layer);
  CHECK(layer.in_features() == 0);  // NOLINT
  std::vector<float> y(64);
  CHECK(code_of([&] { layer.forward(view, MatrixView<float>(y.data(), 8, 8)); }) ==
        ErrorCode::shape_mismatch);
  kvant::QuantizedActivations batch;
  kvant::Linear linear = kvant::Linear::quantize(view, kvant::WeightFormat::int8_row);
  linear.quantize_activations(kvant::default_context(), view, batch);
  const auto batch_taken = std::move(batch);
  CHECK(batch.cols() == 0);  // NOLINT
  CHECK(code_of([&] {
          linear.forward(kvant::default_context(), batch, MatrixView<float>(y.data(), 8, 8));
        }) == ErrorCode::shape_mismatch);
}

TEST_CASE("one Context in two threads is refused by debug builds") {
#ifdef NDEBUG
  SUCCEED("watched in debug builds only");
#else
  /// Another thread calls while this one is inside.
  struct Meddler final : kvant::Executor {
    Context* context = nullptr;
    MatrixView<const float> x;
    ErrorCode seen = ErrorCode::ok;
    bool busy = false;
    [[nodiscard]] int concurrency() const noexcept override { return 2; }
    void parallel_for(std::int64_t count, kvant::RangeFunction function) override {
      if (!busy) {
        busy = true;
        std::thread([&] {
          seen = code_of([&] {
            (void)kvant::PackedWeights::quantize(*context, x, kvant::WeightFormat::int8_row);
          });
        }).join();
      }
      function(0, count);
    }
  };
  const std::vector<float> w(512 * 512, 1.0f);
  const MatrixView<const float> view(w.data(), 512, 512);
  const auto meddler = std::make_shared<Meddler>();
  Context context({.executor = meddler});
  meddler->context = &context;
  meddler->x = view;
  const auto packed = kvant::PackedWeights::quantize(context, view, kvant::WeightFormat::int8_row);
  CHECK(meddler->busy);
  CHECK(meddler->seen == ErrorCode::invalid_argument);
  CHECK(packed.n() == 512);
  // One after the other is fine.
  std::thread([&] {
    (void)kvant::PackedWeights::quantize(context, view, kvant::WeightFormat::int8_row);
  }).join();
#endif
}

TEST_CASE("codes unpack into the caller's bytes") {
  std::vector<float> x(5 * 37);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const MatrixView<const float> view(x.data(), 5, 37);
  for (const kvant::QuantScheme& scheme :
       {kvant::int8_symmetric, kvant::uint8_affine, kvant::int4_symmetric, kvant::uint4_affine,
        kvant::int2_affine, kvant::uint2_affine}) {
    INFO(std::string(scheme.name));
    const auto q = kvant::quantize(view, kvant::choose_params(view, scheme, kvant::per_row));
    const std::vector<std::int32_t> wanted = q.unpack();
    const bool is_signed = kvant::describe(scheme.dtype).kind == kvant::DTypeKind::signed_integer;
    std::vector<std::int8_t> room(5 * 40, 99);
    if (is_signed) {
      q.unpack_to(MatrixView<std::int8_t>(room.data(), 5, 37, 40));
    } else {
      q.unpack_to(
          MatrixView<std::uint8_t>(reinterpret_cast<std::uint8_t*>(room.data()), 5, 37, 40));
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const std::int8_t got = room[i / 37 * 40 + i % 37];
      CHECK((is_signed ? got : static_cast<std::uint8_t>(got)) == wanted[i]);
    }
    CHECK(room[37] == 99);  // between the rows
    std::vector<float> wrong(5 * 37);
    CHECK(code_of([&] { q.unpack_to(MatrixView<float>(wrong.data(), 5, 37)); }) ==
          ErrorCode::unsupported);
    std::vector<std::int8_t> small(4 * 37);
    if (is_signed) {
      CHECK(code_of([&] { q.unpack_to(MatrixView<std::int8_t>(small.data(), 4, 37)); }) ==
            ErrorCode::shape_mismatch);
    }
  }
}

TEST_CASE("outlier features are found over batches") {
  kvant::OutlierFinder finder(4);
  const std::vector<float> first = {1, -6, 0, 5.99f, 1, 2, 3, 4};
  const std::vector<kvant::bfloat16> second = {kvant::bfloat16(7.0f), kvant::bfloat16(-8.0f),
                                               kvant::bfloat16(0.0f), kvant::bfloat16(NAN)};
  const std::vector<float> third = {0, 6, kInf, 0};
  finder.observe(MatrixView<const float>(first.data(), 2, 4));
  CHECK(finder.columns() == std::vector<std::int64_t>{1});
  finder.observe(MatrixView<const kvant::bfloat16>(second.data(), 1, 4));
  finder.observe(MatrixView<const float>(third.data(), 1, 4));
  CHECK(finder.rows() == 4);
  CHECK(finder.counts() == std::vector<std::int64_t>{1, 3, 1, 0});
  CHECK(finder.columns() == std::vector<std::int64_t>{0, 1, 2});
  CHECK(finder.columns(0.5) == std::vector<std::int64_t>{1});
  CHECK(finder.columns(1).empty());
  // What a layer takes, and what a forward pass of the paper finds in the same batch.
  CHECK(code_of([&] { finder.observe(MatrixView<const float>(first.data(), 4, 2)); }) ==
        ErrorCode::shape_mismatch);
  CHECK(code_of([&] { (void)finder.columns(1.5); }) == ErrorCode::invalid_argument);
  CHECK(code_of([] { kvant::OutlierFinder(4, 0.0f); }) == ErrorCode::invalid_argument);
  CHECK(code_of([] { kvant::OutlierFinder(-1); }) == ErrorCode::invalid_argument);
}

TEST_CASE("calibrated outliers need columns") {
  const std::vector<float> w(4 * 64, 1.0f);
  const MatrixView<const float> view(w.data(), 4, 64);
  const std::vector<std::int64_t> columns = {3};
  std::string message;
  CHECK(code_of(
            [&] {
              (void)kvant::Int8Linear::quantize(view, {},
                                                {.outliers = kvant::Outliers::calibrated});
            },
            &message) == ErrorCode::invalid_argument);
  CHECK(message.find("keep_columns") != std::string::npos);
  (void)kvant::Int8Linear::quantize(
      view, {}, {.outliers = kvant::Outliers::calibrated, .keep_columns = columns});
  (void)kvant::Int8Linear::quantize(view, {},
                                    {.threshold = 0, .outliers = kvant::Outliers::calibrated});
}

TEST_CASE("check_finite looks at the weights of every format") {
  std::vector<float> w(70 * 64, 1.0f);
  w[65 * 64 + 3] = NAN;
  for (const kvant::WeightFormatInfo& info : kvant::weight_format_table()) {
    const auto quantize = [&](bool check) {
      return code_of([&] {
        (void)kvant::Linear::quantize(MatrixView<const float>(w.data(), 70, 64), info.format, {},
                                      {.check_finite = check});
      });
    };
    if (quantize(false) == ErrorCode::unsupported) continue;  // a format that is not packed
    INFO(std::string(info.name));
    CHECK(quantize(false) == ErrorCode::ok);
    CHECK(quantize(true) == ErrorCode::not_finite);
  }
}

TEST_CASE("a block of workspace that there is not") {
  Context context;
  CHECK(code_of([&] { (void)context.workspace(64, 7); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { (void)context.workspace(64, -1); }) == ErrorCode::invalid_argument);
}

TEST_CASE("a matrix whose size wraps around is refused") {
  CHECK(code_of([] { Matrix<float>(std::int64_t{1} << 40, std::int64_t{1} << 40); }) ==
        ErrorCode::out_of_range);
  CHECK(code_of([] { Matrix<float>(std::int64_t{1} << 62, 4); }) == ErrorCode::out_of_range);
  CHECK(code_of([] { Matrix<float>(-1, 4); }) == ErrorCode::invalid_argument);
  CHECK(Matrix<float>(std::int64_t{1} << 62, 0).values().empty());
}
