// kvant::core against the compiled library: the same parameters, codes, values and errors for every
// scheme, granularity and element type.

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kvant/core.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/observer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

constexpr std::array kBlocks = {per_tensor,        per_row,          per_column,
                                BlockShape{1, 32}, BlockShape{3, 0}, BlockShape{4, 17},
                                BlockShape{0, 5}};

constexpr std::int64_t kRows = 13;
constexpr std::int64_t kCols = 67;

/// Rows x columns with a gap behind each row; ties, tiny and large values, and a block of zeros.
template <class T>
struct Input {
  explicit Input(std::uint64_t seed) : values(static_cast<std::size_t>(kRows * (kCols + 3))) {
    std::mt19937_64 generator(seed);
    std::vector<float> floats =
        random_floats(generator, static_cast<std::int64_t>(values.size()), 2.0f);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      switch (generator() % 12) {
        case 0: floats[i] = 0; break;
        case 1: floats[i] = std::round(floats[i] * 4) / 4; break;
        case 2: floats[i] = std::ldexp(floats[i], -20); break;
        default: break;
      }
      values[i] = static_cast<T>(i < 100 ? 0.0f : floats[i]);
    }
  }
  [[nodiscard]] MatrixView<const T> view() const {
    return {values.data(), kRows, kCols, kCols + 3};
  }
  std::vector<T> values;
};

bool same(const QuantParams& a, const QuantParams& b) {
  return a.scale == b.scale && a.zero_point == b.zero_point && a.inv_scale == b.inv_scale &&
         a.shift == b.shift && a.block == b.block && a.arithmetic == b.arithmetic;
}

template <class T>
bool same(const Matrix<T>& a, const Matrix<T>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), a.values().size() * sizeof(T)) == 0;
}

template <class T>
void compare_all() {
  const Input<T> input(test_seed());
  const MatrixView<const T> x = input.view();
  for (const QuantScheme& scheme : kQuantSchemes) {
    for (const BlockShape block : kBlocks) {
      INFO(scheme.name << " of " << to_string(dtype_of<T>) << " in blocks of " << block.rows
                       << " x " << block.cols);
      const QuantParams params = core::choose_params(x, scheme, block);
      REQUIRE(same(params, choose_params(x, scheme, block)));
      const QuantizedMatrix q = core::quantize(x, params);
      REQUIRE(q.bytes() == quantize(x, params).bytes());
      REQUIRE(core::quantize(ConstAnyMatrix(x), params).bytes() == q.bytes());
      REQUIRE(same(core::dequantize<float>(q), dequantize<float>(q)));
      REQUIRE(same(core::dequantize<T>(q), dequantize<T>(q)));
      REQUIRE(same(core::fake_quantize<T>(x, params), fake_quantize<T>(x, params)));
      const QuantParams other = core::choose_params(x, uint4_affine, per_row);
      REQUIRE(core::requantize(q, other).bytes() == requantize(q, other).bytes());
      REQUIRE(core::requantize(core::quantize(x, other), params).bytes() ==
              requantize(quantize(x, other), params).bytes());
    }
  }
}

}  // namespace

TEST_CASE("core: every scheme and granularity as the compiled library, fp32") {
  compare_all<float>();
}
TEST_CASE("core: every scheme and granularity as the compiled library, fp16") {
  compare_all<float16>();
}
TEST_CASE("core: every scheme and granularity as the compiled library, bf16") {
  compare_all<bfloat16>();
}

TEST_CASE("core: codes into the caller's memory, in the storage type of the scheme") {
  const Input<float> input(7);
  const auto x = input.view();
  const auto check = [&]<class Code>(const QuantScheme& scheme, Code) {
    INFO(scheme.name);
    const QuantParams params = core::choose_params(x, scheme, per_row);
    std::vector<Code> mine(static_cast<std::size_t>(kRows * (kCols + 1)));
    std::vector<Code> theirs(mine.size());
    core::quantize_to(x, params, MatrixView<Code>(mine.data(), kRows, kCols, kCols + 1));
    quantize_to(x, params, MatrixView<Code>(theirs.data(), kRows, kCols, kCols + 1));
    CHECK(std::memcmp(mine.data(), theirs.data(), mine.size()) == 0);
    const QuantizedMatrix q = core::quantize(x, params);
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kCols; ++c) {
        std::uint8_t byte;
        std::memcpy(&byte, &mine[static_cast<std::size_t>(r * (kCols + 1) + c)], 1);
        REQUIRE(byte == static_cast<std::uint8_t>(q.code(r, c)));
      }
    }
    CHECK(code_of([&] { core::quantize_to(x, params, MatrixView<std::int16_t>()); }) ==
          ErrorCode::invalid_argument);
  };
  check(int8_symmetric, std::int8_t{});
  check(uint8_affine, std::uint8_t{});
  check(int4_affine, int4{});
  check(uint4_affine, uint4{});
  check(int2_symmetric, int2{});
  check(uint2_affine, uint2{});
  check(float8_e4m3fn_symmetric, float8_e4m3fn{});
  check(float8_e5m2_symmetric, float8_e5m2{});
}

TEST_CASE("core: observers as the compiled ones") {
  core::MinMaxObserver extremes(per_column);
  core::MovingAverageObserver average(0.3f, per_group(32));
  MinMaxObserver compiled_extremes(per_column);
  MovingAverageObserver compiled_average(0.3f, per_group(32));
  for (std::uint64_t batch = 1; batch < 5; ++batch) {
    const Input<bfloat16> input(batch);
    extremes.observe(input.view());
    average.observe(input.view());
    compiled_extremes.observe(input.view());
    compiled_average.observe(input.view());
  }
  CHECK(extremes.range().min == compiled_extremes.range().min);
  CHECK(extremes.range().max == compiled_extremes.range().max);
  CHECK(average.range().min == compiled_average.range().min);
  CHECK(average.range().max == compiled_average.range().max);
  CHECK(same(average.params(int8_affine), compiled_average.params(int8_affine)));
}

TEST_CASE("core: NaN, infinities, empty matrices and one row as a span") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> values{1, -2, kNan, 4, kInfinity, -kInfinity, 0.25f, -0.0f};
  const MatrixView<const float> x(values.data(), 2, 4);
  CHECK(message_of([&] { (void)core::choose_params(x, int8_affine, per_row); },
                   ErrorCode::not_finite) ==
        message_of([&] { (void)choose_params(x, int8_affine, per_row); }, ErrorCode::not_finite));
  for (const QuantScheme& scheme : {int8_affine, quanto_qint4, float8_e4m3fn_symmetric}) {
    INFO(scheme.name);
    const QuantParams params = core::choose_params(x, scheme, per_row, NonFinite::ignore);
    CHECK(same(params, choose_params(x, scheme, per_row, NonFinite::ignore)));
    CHECK(core::quantize(x, params).bytes() == quantize(x, params).bytes());
  }
  for (const auto& [rows, cols] : {std::pair{0, 5}, {5, 0}, {0, 0}}) {
    const MatrixView<const float> none(values.data(), rows, cols);
    const QuantParams params = core::choose_params(none, int8_symmetric, per_row);
    const QuantizedMatrix q = core::quantize(none, params);
    CHECK(q.rows() == rows);
    CHECK(q.bytes().empty());
    CHECK(core::dequantize<float>(q).values().empty());
  }
  const std::span<const float> row(values.data(), 2);
  const QuantParams params = core::choose_params(row, int8_symmetric);
  CHECK(core::quantize(row, params).unpack() == std::vector<std::int32_t>{64, -127});
  std::vector<float> back(2);
  core::dequantize(core::quantize(row, params), std::span<float>(back));
  CHECK(back[1] == Approx(-2));
}

TEST_CASE("core: what is wrong is said in the compiled library's words") {
  std::vector<float> values(12, 1.0f);
  const MatrixView<float> x(values.data(), 3, 4);
  const QuantParams params = core::choose_params(x, int8_symmetric, per_row);
  std::vector<std::int8_t> codes(12);
  const MatrixView<std::int8_t> short_codes(codes.data(), 2, 4);
  const MatrixView<float> overlapping(values.data() + 1, 2, 4);
  QuantParams wrong = params;
  wrong.scale.pop_back();
  const auto same_error = [](auto&& mine, auto&& theirs) {
    std::string my_text;
    std::string their_text;
    const ErrorCode code = code_of(mine, &my_text);
    CHECK(code != ErrorCode::ok);
    CHECK(code == code_of(theirs, &their_text));
    CHECK(my_text == their_text);
  };
  same_error([&] { (void)core::quantize(x, wrong); }, [&] { (void)quantize(x, wrong); });
  same_error([&] { core::quantize_to(x, params, short_codes); },
             [&] { quantize_to(x, params, short_codes); });
  same_error([&] { core::fake_quantize(x, params, overlapping); },
             [&] { fake_quantize(x, params, overlapping); });
  const MatrixView<const float> two = x.rows_from(0, 2);
  const QuantParams for_two = core::choose_params(two, int8_symmetric, per_row);
  same_error([&] { core::fake_quantize(two, for_two, overlapping); },
             [&] { fake_quantize(two, for_two, overlapping); });
  const QuantizedMatrix q = core::quantize(x, params);
  same_error([&] { core::dequantize(q, overlapping); }, [&] { dequantize(q, overlapping); });
  same_error(
      [&] {
        (void)core::block_range(x, {-1, 0});
      },
      [&] {
        (void)choose_params(x, int8_symmetric, {-1, 0});
      });
  const ConstAnyMatrix integers(codes.data(), DType::int8, 3, 4, 4);
  same_error([&] { (void)core::choose_params(integers, int8_symmetric); },
             [&] { (void)choose_params(integers, int8_symmetric); });
  CHECK(code_of([] { core::MovingAverageObserver(0.0f); }) == ErrorCode::invalid_argument);
}

TEST_CASE("ranges without 0 are for schemes with zero points") {
  const std::vector<float> values{1.0f, 2.0f};
  const std::span<const float> x(values);
  const auto code = [&](const QuantScheme& scheme) {
    return code_of([&] { (void)core::quantize(x, core::choose_params(x, scheme)); });
  };
  CHECK(code(int8_symmetric.with_range(5, 127)) == ErrorCode::invalid_argument);
  CHECK(code(quanto_qint8.with_range(-128, -1)) == ErrorCode::invalid_argument);
  CHECK(code(torch_qint8_symmetric.with_range(10, 20)) == ErrorCode::invalid_argument);
  CHECK(code(int8_affine.with_range(5, 127)) == ErrorCode::ok);
  QuantParams by_hand;
  by_hand.scheme = int8_affine.with_range(5, 127);
  by_hand.scale = {1.0f};
  CHECK(message_of([&] { (void)core::quantize(x, by_hand); }, ErrorCode::invalid_argument)
            .find("5..127") != std::string::npos);
  CHECK(QuantizedMatrix(std::int64_t{1} << 40, 0, {}, QuantParams()).unpack().empty());
}

TEST_CASE("8-bit floats as codes: ranges, rules and NaN codes that are refused") {
  const std::vector<float> values{0.0f, 1.0f, -448.0f, 3.3f};
  const MatrixView<const float> x(values.data(), 1, 4);
  const QuantizedMatrix q = core::quantize(x, core::choose_params(x, float8_e4m3fn_symmetric));
  CHECK(q.params().scale == std::vector<float>{1.0f});
  CHECK(q.codes<float8_e4m3fn>()(0, 2).bits == 0xFE);
  CHECK(core::dequantize<float>(q).values() == std::vector<float>{0, 1, -448, 3.25f});
  CHECK_THROWS_AS(q.codes<std::int8_t>(), Error);
  const auto with = [&](const QuantScheme& scheme) {
    return code_of([&] { (void)core::choose_params(x, scheme); });
  };
  CHECK(with(float8_e4m3fn_symmetric.with_range(-449, 449)) == ErrorCode::invalid_argument);
  CHECK(with(float8_e4m3fn_symmetric.with_range(-448, 440)) == ErrorCode::invalid_argument);
  CHECK(with(float8_e4m3fn_symmetric.with_range(-240, 240)) == ErrorCode::ok);
  CHECK(with(float8_e4m3fn_symmetric.with_range(-127, 127)) == ErrorCode::invalid_argument);
  QuantScheme affine = float8_e5m2_symmetric;
  affine.rule = ScaleRule::affine;
  CHECK(with(affine) == ErrorCode::unsupported);
  CHECK(message_of(
            [&] {
              QuantizedMatrix(1, 4, {0, 0x7F, 0, 0}, q.params());
            },
            ErrorCode::invalid_argument)
            .find("127 at [0, 1]") != std::string::npos);
}

}  // namespace kvant::test
