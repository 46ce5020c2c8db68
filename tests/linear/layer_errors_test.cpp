// What a layer, its Context and its executor say to bad input: the code, the values, nothing
// changed.

#include <string>

#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/linear.hpp"
#include "kvant/packed_matrix.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/special_floats.hpp"
#include "support/views.hpp"

namespace kvant::test {
TEST_CASE("Int8Linear: errors carry the values and change nothing") {
  const std::vector<float> w(12, 1.0f);
  const std::vector<float> x(12, 1.0f);
  std::vector<float> y(12, 7.0f);
  const auto layer = Int8Linear::quantize(view(w, 3, 4));
  const MatrixView<float> out(y.data(), 3, 3);
  CHECK(message_of([&] { layer.forward(view(x, 3, 3), out); }, ErrorCode::shape_mismatch) ==
        "Int8Linear::forward: x has 3 columns, the layer takes 4 inputs");
  CHECK(message_of([&] { layer.forward(view(x, 2, 4), out); }, ErrorCode::shape_mismatch)
            .find("[2, 3] is wanted") != std::string::npos);
  message_of([&] { layer.forward(MatrixView<const float>(nullptr, 3, 4), out); },
             ErrorCode::invalid_argument);
  message_of([&] { layer.forward(view(x, 3, 4), MatrixView<float>(y.data(), 3, 3, 1)); },
             ErrorCode::invalid_argument);
  message_of([&] { layer.forward(view(x, 3, 4), MatrixView<float>(nullptr, 3, 3)); },
             ErrorCode::invalid_argument);
  message_of([&] { layer.forward(MatrixView<const float>(y.data(), 3, 4), out); },
             ErrorCode::invalid_argument);
  message_of([&] { layer.forward(MatrixView<const float>(x.data(), -1, 4), out); },
             ErrorCode::invalid_argument);
  message_of([&] { layer.forward(MatrixView<const float>(x.data(), 3, 4, INT64_MAX / 2), out); },
             ErrorCode::out_of_range);
  // Rows that repeat have no stride to be too long, but what is made of them has a size.
  QuantizedActivations batch;
  for (const WeightFormat format : {WeightFormat::int8_row, WeightFormat::float32}) {
    const auto narrow = Linear::quantize(view(w, 3, 1), format);
    message_of(
        [&] {
          narrow.quantize_activations(
              default_context(), MatrixView<const float>(x.data(), INT64_MAX / 4, 1, 0), batch);
        },
        ErrorCode::out_of_range);
  }
  const std::vector<std::int32_t> ints(12);
  message_of([&] { layer.forward(view(ints, 3, 4), out); }, ErrorCode::unsupported);
  CHECK(y == std::vector<float>(12, 7.0f));
  CHECK_FALSE(layer.try_forward(default_context(), view(x, 3, 3), out).ok());
  CHECK(layer.try_forward(default_context(), view(x, 3, 3), out).code == ErrorCode::shape_mismatch);
  CHECK(layer.try_forward(default_context(), view(x, 3, 4), out).ok());

  for (const float threshold : {-1.0f, kNaN}) {
    message_of([&] { (void)Int8Linear::quantize(view(w, 3, 4), {}, {.threshold = threshold}); },
               ErrorCode::invalid_argument);
  }
  const auto keep = [&](std::vector<std::int64_t> columns, ErrorCode code) {
    message_of([&] { (void)Int8Linear::quantize(view(w, 3, 4), {}, {.keep_columns = columns}); },
               code);
  };
  keep({4}, ErrorCode::out_of_range);
  keep({-1}, ErrorCode::out_of_range);
  keep({2, 1}, ErrorCode::invalid_argument);
  keep({1, 1}, ErrorCode::invalid_argument);
  message_of(
      [&] {
        (void)Int8Linear::quantize(
            view(w, 3, 4), {},
            {.outliers = Outliers::per_row, .arithmetic = Arithmetic::bitsandbytes});
      },
      ErrorCode::invalid_argument);
  const std::vector<float> bias(4, 0.0f);
  CHECK(message_of([&] { (void)Int8Linear::quantize(view(w, 3, 4), view(bias, 1, 4)); },
                   ErrorCode::shape_mismatch)
            .find("3 outputs") != std::string::npos);
  const std::vector<float> stretched(static_cast<std::size_t>(kMaxInnerDimension + 1), 1.0f);
  message_of([&] { (void)Int8Linear::quantize(view(stretched, 1, kMaxInnerDimension + 1)); },
             ErrorCode::out_of_range);
  CHECK(Int8Linear::quantize(view(stretched, 1, kMaxInnerDimension)).in_features() ==
        kMaxInnerDimension);

  const std::vector<std::int8_t> codes(12, 1);
  const auto from = [&](std::vector<float> absmax, ErrorCode code) {
    message_of([&] { (void)Int8Linear::from_codes(view(codes, 3, 4), absmax); }, code);
  };
  from({1, 1}, ErrorCode::shape_mismatch);
  from({1, kNaN, 1}, ErrorCode::invalid_argument);
  from({1, -1, 1}, ErrorCode::invalid_argument);
  from({1, kInf, 1}, ErrorCode::invalid_argument);
}

TEST_CASE("weights packed for one kernel set are refused by another") {
  std::vector<std::string> names;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) names.emplace_back(isa.name);
  }
  if (names.size() < 2) {
    WARN("only " << names.front() << " runs here");
    return;
  }
  const std::vector<float> w(12, 1.0f);
  std::vector<float> y(3);
  Context scalar({.isa = "scalar"});
  Context best({.isa = names.back()});
  const auto layer = Int8Linear::quantize(scalar, view(w, 3, 4));
  const std::string message =
      message_of([&] { layer.forward(best, view(w, 1, 4), MatrixView<float>(y.data(), 1, 3)); },
                 ErrorCode::unsupported);
  CHECK(message.find("scalar") != std::string::npos);
  CHECK(message.find(names.back()) != std::string::npos);
}

TEST_CASE("choosing a kernel set: unknown or missing is an error that lists what there is") {
  CHECK(
      message_of([] { Context context({.isa = "sse9"}); }, ErrorCode::unavailable).find("scalar") !=
      std::string::npos);
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) {
      CHECK(Context({.isa = isa.name}).isa() == isa.name);
      CHECK(std::string(kernels_for(isa.name).name) == isa.name);
    } else {
      const std::string name(isa.name);
      CHECK(message_of([&] { Context context({.isa = name}); }, ErrorCode::unavailable)
                .find(isa.missing) != std::string::npos);
    }
  }
  message_of([] { (void)openmp_executor(-1); }, ErrorCode::invalid_argument);
  message_of([] { (void)openmp_executor(1000000); }, ErrorCode::invalid_argument);
}

TEST_CASE("Context: what is left behind by a move still works, in the calling thread") {
  Context first({.threads = 2});
  const Context second = std::move(first);
  CHECK(first.executor().concurrency() == 1);  // NOLINT: that is the question
  const std::vector<float> w(12, 1.0f);
  const std::vector<float> x(4, 2.0f);
  std::vector<float> y(3);
  Int8Linear::quantize(first, view(w, 3, 4))
      .forward(first, view(x, 1, 4), MatrixView<float>(y.data(), 1, 3));
  CHECK(y == std::vector<float>(3, 8.0f));
  CHECK(second.executor().concurrency() >= 1);
}

}  // namespace kvant::test
