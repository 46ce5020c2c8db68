// Every path of the linear quantizers (kernels of every instruction set, blocks, packed codes,
// threads, strides, half types) against the scalar rules, bit for bit; and what is refused.

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kvant/isa.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

using kvant::BlockShape;
using kvant::Context;
using kvant::DType;
using kvant::MatrixView;
using kvant::QuantParams;
using kvant::QuantScheme;
using kvant::RoundOrder;

std::vector<std::string> available_sets() {
  std::vector<std::string> names;
  for (const kvant::IsaInfo& info : kvant::instruction_sets()) {
    if (info.available) names.emplace_back(info.name);
  }
  return names;
}

std::size_t block_of(BlockShape block, std::int64_t cols, std::int64_t r, std::int64_t c) {
  const std::int64_t row = block.rows == 0 ? 0 : r / block.rows;
  const std::int64_t col = block.cols == 0 ? 0 : c / block.cols;
  return static_cast<std::size_t>(row * block.count_cols(cols) + col);
}

template <class T>
kvant::BlockRange reference_range(MatrixView<const T> x, BlockShape block) {
  const auto size =
      static_cast<std::size_t>(block.count_rows(x.rows()) * block.count_cols(x.cols()));
  kvant::BlockRange range{std::vector<float>(size, INFINITY), std::vector<float>(size, -INFINITY)};
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      const std::size_t at = block_of(block, x.cols(), r, c);
      range.min[at] = std::min(range.min[at], static_cast<float>(x(r, c)));
      range.max[at] = std::max(range.max[at], static_cast<float>(x(r, c)));
    }
  }
  return range;
}

template <class T>
std::vector<std::int32_t> reference_codes(MatrixView<const T> x, const QuantParams& p) {
  std::vector<std::int32_t> codes;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      const std::size_t at = block_of(p.block, x.cols(), r, c);
      const bool divide = p.order() == RoundOrder::divide;
      const float factor = divide                ? p.scale[at]
                           : p.inv_scale.empty() ? 1 / p.scale[at]
                                                 : p.inv_scale[at];
      codes.push_back(kvant::quantize_value(static_cast<float>(x(r, c)), factor,
                                            p.zero_point.empty() ? 0 : p.zero_point[at],
                                            p.scheme.lowest, p.scheme.highest, p.order()));
    }
  }
  return codes;
}

// Values with everything a float can be but NaN and Inf.
std::vector<float> wild_values(std::mt19937_64& generator, std::int64_t count) {
  std::vector<float> values = kvant::test::random_floats(generator, count, 3.0f);
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (generator() % 16) {
      case 0:
        values[i] = 0;
        break;
      case 1:
        values[i] = -0.0f;
        break;
      case 2:
        values[i] = std::ldexp(values[i], -130);
        break;
      case 3:
        values[i] = std::round(values[i] * 4) / 4;
        break;  // ties
      case 4:
        values[i] *= 40;
        break;
      default:
        break;
    }
  }
  return values;
}

template <class T>
void compare_with_scalar_rules(Context& context, std::mt19937_64& generator, std::int64_t rows,
                               std::int64_t cols, std::int64_t stride) {
  const auto floats = wild_values(generator, (rows - 1) * stride + cols);
  std::vector<T> storage;
  for (const float v : floats) storage.push_back(T(v));
  const MatrixView<const T> x(storage.data(), rows, cols, stride);
  const BlockShape shapes[] = {
      kvant::per_tensor,       kvant::per_row,         kvant::per_column,
      kvant::per_group(1),     kvant::per_group(3),    kvant::per_group(32),
      kvant::per_block(2, 5),  kvant::per_block(3, 1), kvant::per_block(4, 64),
      kvant::BlockShape{2, 0}, kvant::BlockShape{0, 7}};
  const QuantScheme schemes[] = {
      kvant::int8_symmetric,         kvant::int8_affine,
      kvant::uint8_affine,           kvant::int4_symmetric,
      kvant::uint4_affine,           kvant::int2_affine,
      kvant::uint2_affine,           kvant::torch_qint8_affine,
      kvant::torch_quint8_symmetric, kvant::int8_affine.with_order(RoundOrder::divide)};
  const std::size_t one_shape = generator() % std::size(shapes);
  for (std::size_t s = 0; s < std::size(shapes); ++s) {
    const BlockShape block = shapes[s];
    const kvant::BlockRange range = kvant::block_range(context, x, block);
    const kvant::BlockRange want = reference_range(x, block);
    REQUIRE(range.min == want.min);
    REQUIRE(range.max == want.max);
    for (const QuantScheme& scheme : schemes) {
      if (rows * cols > 4000 && s != one_shape) continue;
      CAPTURE(scheme.name, block.rows, block.cols, rows, cols, stride);
      const QuantParams params = kvant::choose_params(context, x, scheme, block);
      const kvant::QuantizedMatrix q = kvant::quantize(context, x, params);
      const std::vector<std::int32_t> codes = reference_codes(x, params);
      REQUIRE(q.unpack() == codes);

      kvant::Matrix<T> back(rows, cols);
      kvant::dequantize(context, q, back);
      kvant::Matrix<T> fake(rows, cols);
      kvant::fake_quantize(context, x, params, fake);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          const std::size_t at = block_of(block, cols, r, c);
          const T value(kvant::dequantize_value(
              codes[static_cast<std::size_t>(r * cols + c)], params.scale[at],
              params.zero_point.empty() ? 0 : params.zero_point[at]));
          REQUIRE(static_cast<float>(back(r, c)) == static_cast<float>(value));
          REQUIRE(static_cast<float>(fake(r, c)) == static_cast<float>(value));
        }
      }
      const auto other = kvant::choose_params(context, x, kvant::uint4_affine, kvant::per_row);
      const auto again = kvant::requantize(context, q, other);
      kvant::Matrix<float> between(rows, cols);
      kvant::dequantize(context, q, between);
      REQUIRE(again.bytes() == kvant::quantize(context, between, other).bytes());
    }
  }
}

}  // namespace

TEST_CASE("every instruction set equals the scalar rules for every block shape") {
  const std::uint64_t seed = kvant::test::test_seed();
  INFO("seed " << seed);
  for (const std::string& isa : available_sets()) {
    CAPTURE(isa);
    Context context({.isa = isa, .executor = kvant::inline_executor()});
    std::mt19937_64 generator(seed);
    for (const auto& [rows, cols] : {std::pair<int, int>{1, 1},
                                     {1, 17},
                                     {3, 5},
                                     {7, 33},
                                     {5, 64},
                                     {2, 131},
                                     {17, 16},
                                     {64, 15},
                                     {3, 2050}}) {
      compare_with_scalar_rules<float>(context, generator, rows, cols, cols);
      compare_with_scalar_rules<float>(context, generator, rows, cols, cols + 3);
    }
    compare_with_scalar_rules<kvant::float16>(context, generator, 5, 37, 41);
    compare_with_scalar_rules<kvant::bfloat16>(context, generator, 6, 65, 65);
  }
}

TEST_CASE("the same codes for any number of threads, by rows and by strips") {
  std::mt19937_64 generator(kvant::test::test_seed());
  for (const auto& [rows, cols] : {std::pair<int, int>{700, 501}, {2, 200'003}}) {
    const auto values = wild_values(generator, static_cast<std::int64_t>(rows) * cols);
    const MatrixView<const float> x(values.data(), rows, cols);
    for (const BlockShape block : {kvant::per_tensor, kvant::per_row, kvant::per_group(100)}) {
      for (const QuantScheme& scheme : {kvant::int8_symmetric, kvant::uint4_affine}) {
        std::vector<std::uint8_t> first;
        std::vector<float> first_values;
        for (const int threads : {1, 2, 3, 7, 16}) {
          Context context({.threads = threads});
          const auto q =
              kvant::quantize(context, x, kvant::choose_params(context, x, scheme, block));
          kvant::Matrix<float> back(rows, cols);
          kvant::dequantize(context, q, back);
          if (threads == 1) {
            first = q.bytes();
            first_values = back.values();
          }
          REQUIRE(q.bytes() == first);
          REQUIRE(back.values() == first_values);
        }
      }
    }
  }
}

TEST_CASE("quantize_to writes the caller's memory and nothing beside it") {
  std::mt19937_64 generator(kvant::test::test_seed());
  const auto values = wild_values(generator, 5 * 9);
  const MatrixView<const float> x(values.data(), 5, 9);
  const auto params = kvant::choose_params(x, kvant::int8_affine, kvant::per_group(4));
  std::vector<std::int8_t> codes(5 * 12, 99);
  kvant::quantize_to(x, params, MatrixView<std::int8_t>(codes.data(), 5, 9, 12));
  const auto q = kvant::quantize(x, params);
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t c = 0; c < 12; ++c) {
      CHECK(codes[static_cast<std::size_t>(r * 12 + c)] == (c < 9 ? q.code(r, c) : 99));
    }
  }
  const auto params4 = kvant::choose_params(x, kvant::int4_symmetric, kvant::per_row);
  kvant::Matrix<kvant::int4> small(5, 9);
  kvant::quantize_to(x, params4, small);
  CHECK(small(4, 8).value == kvant::quantize(x, params4).code(4, 8));
  CHECK(q.codes<std::int8_t>()(2, 3) == q.code(2, 3));
  CHECK_THROWS_AS(q.codes<std::uint8_t>(), kvant::Error);
}

TEST_CASE("packed codes: sizes, footprint, and back from bytes") {
  const std::vector<float> x{-8, -3, 0, 7, 2, 5, -1};
  const MatrixView<const float> view{std::span<const float>(x)};
  QuantParams params;
  params.scheme = kvant::int4_affine;
  params.scale = {1};
  const auto q = kvant::quantize(view, params);
  CHECK(q.bytes() == std::vector<std::uint8_t>{0xD8, 0x70, 0x52, 0x0F});
  CHECK(q.row_bytes() == 4);
  CHECK(q.memory_footprint() == 8);
  const kvant::QuantizedMatrix again(1, 7, q.bytes(), params);
  CHECK(kvant::dequantize<float>(again).values() == x);
  CHECK_THROWS_AS(kvant::QuantizedMatrix(1, 9, q.bytes(), params), kvant::Error);
  params.scheme = kvant::int4_symmetric;  // -8 is not one of its codes
  CHECK_THROWS_WITH(kvant::QuantizedMatrix(1, 7, q.bytes(), params), Catch::Contains("-8"));
}

TEST_CASE("rows that repeat or walk upwards are read as they are") {
  std::mt19937_64 generator(kvant::test::test_seed());
  const auto values = wild_values(generator, 5 * 40);
  const MatrixView<const float> repeated(values.data(), 5, 40, 0);
  const MatrixView<const float> upwards(values.data() + 4 * 40, 5, 40, -40);
  for (const MatrixView<const float>& x : {repeated, upwards}) {
    const auto params = kvant::choose_params(x, kvant::int8_affine, kvant::per_group(16));
    CHECK(kvant::quantize(x, params).unpack() == reference_codes(x, params));
    const auto wanted = reference_range(x, kvant::per_column);
    const auto range = kvant::block_range(kvant::default_context(), x, kvant::per_column);
    CHECK(range.min == wanted.min);
    CHECK(range.max == wanted.max);
  }
}

TEST_CASE("fake_quantize in place") {
  std::mt19937_64 generator(kvant::test::test_seed());
  auto values = wild_values(generator, 4 * 3000);
  const MatrixView<float> x(values.data(), 4, 3000);
  const auto params = kvant::choose_params(x, kvant::int8_symmetric, kvant::per_row);
  const auto want = kvant::fake_quantize(x, params);
  kvant::fake_quantize(x, params, x);
  CHECK(values == want.values());
}

TEST_CASE("bad parameters are refused with their values") {
  using Catch::Contains;
  std::vector<float> x(6, 1.0f);
  const MatrixView<float> view(x.data(), 2, 3);
  const auto attempt = [&](float scale, int zero_point = 0) {
    QuantParams params;
    params.scheme = kvant::uint8_affine;
    params.scale = {scale};
    params.zero_point = {zero_point};
    return kvant::quantize(view, params);
  };
  CHECK_NOTHROW(attempt(1));
  CHECK_NOTHROW(attempt(kvant::kSmallestScale));
  CHECK_THROWS_WITH(attempt(0), Contains("the scale 0"));
  CHECK_THROWS_WITH(attempt(-2), Contains("-2"));
  CHECK_THROWS_WITH(attempt(NAN), Contains("nan"));
  CHECK_THROWS_WITH(attempt(INFINITY), Contains("inf"));
  CHECK_THROWS_WITH(attempt(1e-40f), Contains("no finite reciprocal"));
  CHECK_THROWS_WITH(attempt(1, 256), Contains("256") && Contains("0..255"));
  CHECK_THROWS_WITH(attempt(1, -1), Contains("-1"));

  QuantParams params;
  params.block = kvant::per_row;
  params.scale = {1, 1, 1};
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("3 scales") && Contains("2 blocks"));
  params.scale = {1, 1};
  params.zero_point = {0};
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("1 zero points"));
  params.zero_point = {};
  params.inv_scale = {1, -1};
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("inverse scale -1"));
  params.inv_scale = {};
  params.shift = {0, NAN};
  CHECK_THROWS_AS(kvant::quantize(view, params), kvant::Error);
  params.shift = {0, 0};
  params.zero_point = {0, 0};
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("both zero points and shifts"));
  params.shift = {};
  params.block = {-1, 0};
  CHECK_THROWS_AS(kvant::quantize(view, params), kvant::Error);
  params.block = kvant::per_row;
  params.scheme = kvant::int4_affine.with_range(-9, 7);
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("-9..7"));
  params.scheme = kvant::int8_affine;
  params.scheme.dtype = DType::int16;
  CHECK_THROWS_WITH(kvant::quantize(view, params), Contains("int16"));

  CHECK_THROWS_AS(kvant::per_group(0), kvant::Error);
  CHECK_THROWS_AS(kvant::per_block(1, -1), kvant::Error);
  CHECK_THROWS_AS(kvant::params_from_range({1}, {0}, kvant::int8_affine, kvant::per_tensor),
                  kvant::Error);
  CHECK_THROWS_AS(kvant::params_from_range({1, 2}, {3}, kvant::int8_affine, kvant::per_row),
                  kvant::Error);
  CHECK_THROWS_AS(kvant::MovingAverageObserver(0.0f), kvant::Error);
  kvant::MinMaxObserver rows(kvant::per_row);
  CHECK_THROWS_AS(rows.params(kvant::int8_affine), kvant::Error);
  rows.observe(view);
  CHECK_THROWS_WITH(rows.observe(view.rows_from(0, 1)), Contains("2 blocks"));
}

TEST_CASE("bad matrices are refused with their shapes") {
  using Catch::Contains;
  std::vector<float> x(40, 1.0f);
  const MatrixView<float> view(x.data(), 4, 5);
  const auto params = kvant::choose_params(view, kvant::int8_symmetric);
  const auto q = kvant::quantize(view, params);
  CHECK_THROWS_WITH(
      kvant::choose_params(MatrixView<const float>(nullptr, 2, 2), kvant::int8_affine),
      Contains("null"));
  CHECK_THROWS_AS(kvant::quantize(MatrixView<const float>(x.data(), -1, 2), params), kvant::Error);
  const std::vector<double> doubles(4);
  CHECK_THROWS_WITH(
      kvant::quantize(MatrixView<const double>(std::span<const double>(doubles)), params),
      Contains("float64"));
  CHECK_THROWS_WITH(kvant::dequantize(q, MatrixView<float>(x.data(), 5, 4)),
                    Contains("[4, 5]") && Contains("[5, 4]"));
  CHECK_THROWS_WITH(kvant::dequantize(q, MatrixView<float>(x.data(), 4, 5, 3)),
                    Contains("overlap"));
  std::vector<std::int8_t> codes(20);
  CHECK_THROWS_AS(kvant::dequantize(q, MatrixView<std::int8_t>(codes.data(), 4, 5)), kvant::Error);
  CHECK_THROWS_WITH(
      kvant::quantize_to(view, params,
                         MatrixView<std::int8_t>(reinterpret_cast<std::int8_t*>(x.data()), 4, 5)),
      Contains("overlaps"));
  std::vector<std::uint8_t> bytes(20);
  CHECK_THROWS_WITH(kvant::quantize_to(view, params, MatrixView<std::uint8_t>(bytes.data(), 4, 5)),
                    Contains("uint8"));
  CHECK_THROWS_WITH(kvant::fake_quantize(view, params, MatrixView<float>(x.data() + 1, 4, 5)),
                    Contains("overlaps"));
  CHECK_THROWS_AS(kvant::compare(view, MatrixView<float>(x.data(), 2, 5)), kvant::Error);
  // A size that wraps around: one row, repeated.
  const MatrixView<const float> huge(x.data(), std::int64_t{1} << 40, std::int64_t{1} << 40, 0);
  CHECK_THROWS_AS(kvant::quantize(huge, params), kvant::Error);
  CHECK_THROWS_AS((kvant::Matrix<float>(2, 2, std::vector<float>(3))), kvant::Error);
}

TEST_CASE("the textbook's five lines") {
  std::mt19937_64 generator(kvant::test::test_seed());
  const auto values = kvant::test::random_floats(generator, 64 * 96);
  const MatrixView<const float> x(values.data(), 64, 96);
  auto params = kvant::choose_params(x, kvant::int8_symmetric, kvant::per_row);
  auto q = kvant::quantize(x, params);
  auto back = kvant::dequantize<float>(q);
  auto error = kvant::compare(x, back);
  CHECK(error.sqnr_db > 38);
  // Finer blocks cost parameters and win accuracy.
  const auto sqnr = [&](BlockShape block) {
    return kvant::compare(
               x, kvant::fake_quantize(x, kvant::choose_params(x, kvant::int8_symmetric, block)))
        .sqnr_db;
  };
  CHECK(sqnr(kvant::per_group(16)) > sqnr(kvant::per_row));
  CHECK(sqnr(kvant::per_row) > sqnr(kvant::per_tensor));
}
