// Views that check their bounds, and tensors of any rank by channel.

#include <cstdint>
#include <limits>
#include <vector>

#include "kvant/core.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"

namespace kvant::test {

TEST_CASE("checked_view: what fits and what does not") {
  std::vector<float> data(20);
  const std::span<float> span(data);
  const auto code = [&](std::int64_t rows, std::int64_t cols, std::ptrdiff_t stride) {
    return code_of([&] { (void)checked_view(span, rows, cols, stride); });
  };
  CHECK(checked_view(span, 4, 5).size() == 20);
  CHECK(checked_view(data.data(), 4, 5, data.size()).stride() == 5);
  CHECK(code(3, 4, 8) == ErrorCode::ok);  // 2 * 8 + 4
  CHECK(code(4, 4, 6) == ErrorCode::out_of_range);
  CHECK(code(5, 5, 5) == ErrorCode::out_of_range);
  CHECK(code(1, 21, 21) == ErrorCode::out_of_range);
  CHECK(code(0, 1000, 1000) == ErrorCode::ok);
  CHECK(code(1000, 0, 0) == ErrorCode::ok);
  CHECK(code(-1, 4, 4) == ErrorCode::invalid_argument);
  CHECK(code(2, 4, 3) == ErrorCode::invalid_argument);
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  CHECK(code(kHuge, 4, 4) == ErrorCode::out_of_range);
  CHECK(code(kHuge, 4, kHuge) == ErrorCode::out_of_range);
  CHECK(code(2, kHuge, kHuge) == ErrorCode::out_of_range);
  CHECK(message_of([&] { (void)checked_view(data.data(), 4, 6, data.size()); },
                   ErrorCode::out_of_range)
            .find("[4, 6] with row stride 6 does not fit 20 elements") != std::string::npos);
}

TEST_CASE("tensors by channel, along every axis") {
  std::mt19937_64 generator(test_seed());
  const std::vector<std::int64_t> shape{4, 3, 5, 2};
  const std::vector<float> values = random_floats(generator, 4 * 3 * 5 * 2);
  const TensorView<const float> x(values, shape);
  for (int axis = -4; axis < 4; ++axis) {
    INFO("axis " << axis);
    const ChannelAxis channel = per_channel(axis);
    const std::size_t at = static_cast<std::size_t>(axis < 0 ? axis + 4 : axis);
    std::int64_t after = 1;
    for (std::size_t i = at + 1; i < shape.size(); ++i) after *= shape[i];
    const QuantParams params =
        core::choose_params(x.matrix(channel), int8_symmetric, x.block(channel));
    REQUIRE(static_cast<std::int64_t>(params.size()) == shape[at]);
    std::vector<float> absmax(params.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto c = static_cast<std::size_t>(static_cast<std::int64_t>(i) / after % shape[at]);
      absmax[c] = std::max(absmax[c], std::abs(values[i]));
    }
    for (std::size_t c = 0; c < absmax.size(); ++c) {
      CHECK(params.scale[c] == symmetric_scale(absmax[c], 127).scale);
    }
    const QuantizedMatrix q = core::quantize(x.matrix(channel), params);
    CHECK(q.bytes() == quantize(x.matrix(channel), params).bytes());
    const Matrix<float> back = core::dequantize<float>(q);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto c = static_cast<std::size_t>(static_cast<std::int64_t>(i) / after % shape[at]);
      CHECK(std::abs(back.values()[i] - values[i]) <= 0.5001f * params.scale[c]);
    }
  }
}

TEST_CASE("tensors that are not there") {
  std::vector<float> data(24);
  const auto code = [&](std::vector<std::int64_t> shape) {
    return code_of([&] { TensorView<float>(data, std::move(shape)); });
  };
  CHECK(code({2, 3, 4}) == ErrorCode::ok);
  CHECK(code({24, 1, 1, 1, 1, 1, 1, 1, 1, 1}) == ErrorCode::ok);
  CHECK(code({2, 3, 5}) == ErrorCode::shape_mismatch);
  CHECK(code({}) == ErrorCode::shape_mismatch);
  CHECK(code({-2, -12}) == ErrorCode::invalid_argument);
  CHECK(code({std::int64_t{1} << 40, std::int64_t{1} << 40}) == ErrorCode::out_of_range);
  CHECK(code_of([] {
          TensorView<float>({}, {0, std::int64_t{1} << 31, std::int64_t{3} << 31});
        }) == ErrorCode::out_of_range);
  const TensorView<float> x(data.data(), {2, 3, 4}, data.size());
  CHECK(message_of([&] { (void)x.matrix(per_channel(3)); }, ErrorCode::invalid_argument) ==
        "TensorView: the shape [2, 3, 4] has 3 axes, there is no 3");
  CHECK_THROWS_AS(x.block(per_channel(-4)), Error);
  const TensorView<float> none(std::span<float>(), {0, 3, 4});
  CHECK(none.matrix(per_channel(1)).empty());
  CHECK(core::choose_params(none.matrix(per_channel(1)), int8_symmetric, none.block(per_channel(1)))
            .size() == 0);
  // Of a matrix an axis is a BlockShape; others are refused there.
  CHECK(BlockShape(per_channel(-1)) == per_column);
  CHECK_THROWS_AS(BlockShape(per_channel(2)), Error);
}

}  // namespace kvant::test
