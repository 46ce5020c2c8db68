// The worked examples, granularities, ties and edges of tests/data/linear_quantizers/theory.json,
// and every row of the edge table: zeros, constants, largest floats, NaN, Inf, subnormals, empty.

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/special_floats.hpp"

namespace {

using kvant::MatrixView;
using kvant::QuantParams;
using kvant::QuantScheme;
using kvant::RoundOrder;
using kvant::test::float_number;
using kvant::test::floats;
using kvant::test::ints;
using kvant::test::kInf;
using kvant::test::kNaN;

constexpr float kMax = std::numeric_limits<float>::max();

const nlohmann::json& examples() {
  static const nlohmann::json data =
      kvant::test::read_json("linear_quantizers/theory.json")["examples"];
  return data;
}

// The scheme an example means: by its group and its code range.
QuantScheme scheme_of(const nlohmann::json& e) {
  const bool symmetric = e["group"].get<std::string>().find("affine") == std::string::npos &&
                         e["name"].get<std::string>().find("affine") == std::string::npos;
  const auto low = e["qmin"].get<int>();
  const QuantScheme base = e["name"] == "8-bit absmax/127.5" ? kvant::torch_qint8_symmetric
                           : symmetric && low < 0            ? kvant::int8_symmetric
                           : low < 0                         ? kvant::int8_affine
                                                             : kvant::uint8_affine;
  return base.with_range(low, e["qmax"].get<int>()).with_order(RoundOrder::kvant);
}

kvant::Matrix<float> matrix_of(const nlohmann::json& x) {
  const auto values = floats(x);
  const auto rows = static_cast<std::int64_t>(x.is_array() && x[0].is_array() ? x.size() : 1);
  return {rows, static_cast<std::int64_t>(values.size()) / rows, values};
}

}  // namespace

TEST_CASE("the worked examples: scale, zero point, codes and values") {
  int replayed = 0;
  for (const nlohmann::json& e : examples()) {
    const auto group = e["group"].get<std::string>();
    if (!e.contains("qmin") || group == "granularity" || group == "rounding" ||
        group == "edge values") {
      continue;
    }
    const auto name = e["name"].get<std::string>();
    CAPTURE(group, name);
    if (name.find("FLT_MAX") != std::string::npos) continue;  // below: its scale is rounded down
    const kvant::Matrix<float> x = matrix_of(e["x"]);
    QuantParams params = kvant::choose_params(x, scheme_of(e));
    if (name == "zero-point int8, range -1..1") {
      params = kvant::params_from_range({-1}, {1}, kvant::int8_symmetric, kvant::per_tensor);
    }
    CHECK(params.scale[0] == float_number(e["scale"]));
    CHECK((params.zero_point.empty() ? 0 : params.zero_point[0]) == e["zero_point"].get<int>());
    const auto q = kvant::quantize(x, params);
    CHECK(q.unpack() == ints(e["q"]));
    CHECK(kvant::dequantize<float>(q).values() == floats(e["dq"]));
    ++replayed;
  }
  CHECK(replayed == 36);
}

TEST_CASE("absmax int8 of the published example") {
  const std::vector<float> x{1.2f, -0.5f, -4.3f, 1.2f, -3.1f, 0.8f, 2.4f, 5.4f};
  const MatrixView<const float> view{std::span<const float>(x)};
  const auto q = kvant::quantize(view, kvant::choose_params(view, kvant::int8_symmetric));
  CHECK(q.unpack() == std::vector<std::int32_t>{28, -12, -101, 28, -73, 19, 56, 127});
}

TEST_CASE("granularity: every block shape of the theory") {
  int replayed = 0;
  for (const nlohmann::json& e : examples()) {
    if (e["group"] != "granularity") continue;
    CAPTURE(e["name"].get<std::string>());
    const kvant::Matrix<float> x = matrix_of(e["x"]);
    const bool quanto = e["source"] == "quanto";
    const kvant::BlockShape block = quanto ? kvant::per_row
                                           : kvant::BlockShape{e["block"][0].get<std::int64_t>(),
                                                               e["block"][1].get<std::int64_t>()};
    const auto params =
        kvant::choose_params(x, quanto ? kvant::quanto_qint8 : kvant::int8_symmetric, block);
    CHECK(params.scale == floats(e["scales"]));
    const auto q = kvant::quantize(x, params);
    CHECK(q.unpack() == ints(e["q"]));
    CHECK(kvant::dequantize<float>(q).values() == floats(e["dq"]));
    ++replayed;
  }
  CHECK(replayed == 7);
}

TEST_CASE("rounding: ties, orders, reciprocal against division") {
  for (const nlohmann::json& e : examples()) {
    if (e["group"] != "rounding") continue;
    CAPTURE(e["name"].get<std::string>());
    const auto x = floats(e["x"]);
    const float scale = float_number(e["scale"]);
    const auto zero = e["zero_point"].get<int>();
    const auto codes = [&](RoundOrder order, int low, int high) {
      std::vector<int> result;
      const float factor = order == RoundOrder::divide ? scale : 1 / scale;
      for (const float v : x) {
        result.push_back(kvant::quantize_value(v, factor, zero, low, high, order));
      }
      return result;
    };
    if (e.contains("q_reciprocal")) {
      CHECK(codes(RoundOrder::kvant, 0, 255) == ints(e["q_reciprocal"]));
      CHECK(codes(RoundOrder::divide, 0, 255) == ints(e["q_divide"]));
    } else if (e.contains("q")) {
      CHECK(codes(RoundOrder::kvant, -127, 127) == ints(e["q"]));
    } else {
      CHECK(codes(RoundOrder::kvant, -128, 127) == ints(e["q_numerics"]));
      CHECK(codes(RoundOrder::kvant, -128, 127) == ints(e["q_torch_fake_quantize"]));
      CHECK(codes(RoundOrder::torch_tensor, -128, 127) == ints(e["q_torch_quantize_per_tensor"]));
      CHECK(codes(RoundOrder::torch_channel, -128, 127) == ints(e["q_torch_quantize_per_channel"]));
    }
  }
}

TEST_CASE("round_half_even equals nearbyint for every exponent") {
  STATIC_REQUIRE(kvant::round_half_even(2.5f) == 2.0f);
  STATIC_REQUIRE(kvant::round_half_even(-3.5f) == -4.0f);
  STATIC_REQUIRE(kvant::quantize_value(1.0f, 10.0f, 3, -128, 127) == 13);
  std::uint32_t state = 7;
  for (int i = 0; i < 2'000'000; ++i) {
    state = state * 1664525u + 1013904223u;
    const auto x = std::bit_cast<float>(state);
    const float mine = kvant::round_half_even(x);
    const float want = std::nearbyint(x);
    if (!std::isnan(x))
      REQUIRE(std::bit_cast<std::uint32_t>(mine) == std::bit_cast<std::uint32_t>(want));
  }
  for (int i = -4000; i <= 4000; ++i) {
    const float x = static_cast<float>(i) / 4;
    REQUIRE(kvant::round_half_even(x) == std::nearbyint(x));
  }
}

TEST_CASE("zeros: scale 1, codes 0") {
  const std::vector<float> x(12, 0.0f);
  for (const QuantScheme& scheme :
       {kvant::int8_symmetric, kvant::int8_affine, kvant::uint8_affine, kvant::int4_symmetric,
        kvant::uint4_affine, kvant::int2_affine, kvant::quanto_qint8}) {
    CAPTURE(scheme.name);
    const MatrixView<const float> view(x.data(), 3, 4);
    const auto params = kvant::choose_params(view, scheme, kvant::per_row);
    CHECK(params.scale == std::vector<float>(3, 1.0f));
    const auto q = kvant::quantize(view, params);
    CHECK(q.unpack() == std::vector<std::int32_t>(12, 0));
    CHECK(kvant::dequantize<float>(q).values() == x);
  }
}

TEST_CASE("constants come back within one ulp, from the end of the range") {
  std::uint32_t state = 3;
  int off = 0;
  for (int i = 0; i < 20'000; ++i) {
    state = state * 1664525u + 1013904223u;
    const float c =
        std::ldexp(static_cast<float>(state >> 8) + 1, static_cast<int>(state % 60) - 40);
    const kvant::ScaleChoice choice = kvant::symmetric_scale(c, 127);
    REQUIRE(kvant::quantize_value(c, choice.inv_scale, 0, -127, 127) == 127);
    REQUIRE(kvant::quantize_value(-c, choice.inv_scale, 0, -127, 127) == -127);
    const float back = kvant::dequantize_value(127, choice.scale, 0);
    REQUIRE(back >= std::nextafter(c, 0.0f));
    REQUIRE(back <= std::nextafter(c, kInf));
    off += back != c ? 1 : 0;
    const kvant::ScaleChoice affine = kvant::affine_scale(-c, -c, 0, 255);
    REQUIRE(affine.zero_point == 255);
    REQUIRE(kvant::quantize_value(-c, affine.inv_scale, 255, 0, 255) == 0);
  }
  CHECK(off > 0);
  CHECK(off < 400);
}

TEST_CASE("the largest floats dequantize to finite values") {
  for (const nlohmann::json& e : examples()) {
    const auto name = e["name"].get<std::string>();
    if (name.find("FLT_MAX") == std::string::npos) continue;
    CAPTURE(name);
    const kvant::Matrix<float> x = matrix_of(e["x"]);
    const auto params = kvant::choose_params(x, scheme_of(e));
    CHECK(params.scale[0] <= float_number(e["scale"]));
    CHECK(params.scale[0] > 0.995f * float_number(e["scale"]));
    CHECK((params.zero_point.empty() ? 0 : params.zero_point[0]) == e["zero_point"].get<int>());
    const auto q = kvant::quantize(x, params);
    CHECK(q.unpack() == ints(e["q"]));
    const auto back = kvant::dequantize<float>(q);
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      CHECK(std::isfinite(back(0, c)));
      CHECK(std::abs(static_cast<double>(x(0, c)) - static_cast<double>(back(0, c))) <=
            1.01 * static_cast<double>(float_number(e["scale"])));
    }
  }
  for (const int highest : {1, 7, 127}) {  // and for every range of codes
    const kvant::ScaleChoice s = kvant::symmetric_scale(kMax, highest);
    CHECK(static_cast<float>(highest) * s.scale <= kMax);
    CHECK(static_cast<float>(highest) * std::nextafter(s.scale, kInf) >= 0.999999f * kMax);
  }
}

TEST_CASE("a tiny absmax keeps scale and reciprocal finite") {
  CHECK(!std::isinf(1 / kvant::kSmallestScale));
  CHECK(std::isinf(1 / std::nextafter(kvant::kSmallestScale, 0.0f)));
  CHECK(kvant::detail::smallest_absmax(127) == kvant::kSmallestAbsmax);
  for (const float absmax : {0x1p-149f, 1e-40f, 1e-38f, 3.7e-37f, 3.73e-37f, 3.74e-37f, 1e-36f}) {
    for (const int highest : {1, 7, 127}) {
      CAPTURE(absmax, highest);
      const kvant::ScaleChoice s = kvant::symmetric_scale(absmax, highest);
      CHECK(s.scale >= kvant::kSmallestScale);
      CHECK(std::isfinite(s.inv_scale));
      CHECK(std::isfinite(1 / s.scale));
      for (const float x : {absmax, -absmax, absmax / 2, 0.0f}) {
        const auto q = kvant::quantize_value(x, s.inv_scale, 0, -highest, highest);
        CHECK(std::abs(x - kvant::dequantize_value(q, s.scale, 0)) <= s.scale);
      }
    }
    const kvant::ScaleChoice a = kvant::affine_scale(-absmax, absmax / 2, 0, 255);
    CHECK(a.scale >= kvant::kSmallestScale);
    CHECK(std::isfinite(a.inv_scale));
    const std::vector<float> x{absmax, -2 * absmax, 0};
    const MatrixView<const float> view{std::span<const float>(x)};
    const auto back = kvant::fake_quantize(view, kvant::choose_params(view, kvant::int8_symmetric));
    for (const float v : back.values()) CHECK(std::isfinite(v));
  }
}

TEST_CASE("NaN takes the zero point, infinities saturate, with parameters given") {
  for (const nlohmann::json& e : examples()) {
    if (e["group"] != "edge values" || e["source"] == "torch") continue;
    QuantParams params;
    params.scale = {float_number(e["scale"])};
    const kvant::Matrix<float> x = matrix_of(e["x"]);
    CHECK(kvant::quantize(x, params).unpack() == ints(e["q"]));
  }
  const std::vector<float> x{kNaN, kInf, -kInf, 1.0f, -kNaN};
  const MatrixView<const float> view{std::span<const float>(x)};
  for (const RoundOrder order : {RoundOrder::kvant, RoundOrder::divide, RoundOrder::torch_channel,
                                 RoundOrder::torch_tensor}) {
    QuantParams params;
    params.scheme = kvant::uint8_affine.with_order(order);
    params.scale = {0.5f};
    params.zero_point = {131};
    CHECK(kvant::quantize(view, params).unpack() ==
          std::vector<std::int32_t>{131, 255, 0, 133, 131});
  }
  // Half and float shifts too.
  std::vector<kvant::float16> half;
  for (const float v : x) half.emplace_back(v);
  QuantParams params;
  params.scale = {0.5f};
  CHECK(kvant::quantize(MatrixView<const kvant::float16>{std::span<const kvant::float16>(half)},
                        params)
            .unpack() == std::vector<std::int32_t>{0, 127, -127, 2, 0});
  params.scheme = kvant::quanto_qint4;
  params.shift = {2.0f};
  CHECK(kvant::quantize(view, params).unpack() == std::vector<std::int32_t>{4, 15, 0, 6, 4});
}

TEST_CASE("no scale is chosen from NaN or infinities unless they are to be ignored") {
  for (const float bad : {kNaN, kInf, -kInf}) {
    std::vector<float> x(5 * 7, 0.25f);
    x[3 * 7 + 2] = bad;
    x[4] = -2;
    const MatrixView<const float> view(x.data(), 5, 7);
    for (const kvant::BlockShape block : {kvant::per_tensor, kvant::per_row, kvant::per_column,
                                          kvant::per_group(3), kvant::per_block(2, 2)}) {
      CHECK_THROWS_WITH(kvant::choose_params(view, kvant::int8_symmetric, block),
                        Catch::Contains("[3, 2]"));
      x[3 * 7 + 2] = 0;
      const auto want = kvant::choose_params(view, kvant::int8_symmetric, block);
      x[3 * 7 + 2] = bad;
      const auto got =
          kvant::choose_params(view, kvant::int8_symmetric, block, kvant::NonFinite::ignore);
      if (block != kvant::per_block(2, 2)) CHECK(got.scale == want.scale);
    }
  }
  const std::vector<float> x(4, kNaN);  // nothing left: as if empty
  const MatrixView<const float> view{std::span<const float>(x)};
  const auto params =
      kvant::choose_params(view, kvant::uint8_affine, kvant::per_tensor, kvant::NonFinite::ignore);
  CHECK(params.scale[0] == 1);
  CHECK(kvant::dequantize<float>(kvant::quantize(view, params)).values() ==
        std::vector<float>(4, 0.0f));
}

TEST_CASE("empty matrices give empty results") {
  for (const auto& [rows, cols] : {std::pair<int, int>{0, 0}, {0, 5}, {5, 0}}) {
    const MatrixView<const float> x(nullptr, rows, cols);
    for (const kvant::BlockShape block :
         {kvant::per_tensor, kvant::per_row, kvant::per_column, kvant::per_group(2)}) {
      const auto params = kvant::choose_params(x, kvant::int4_affine, block);
      CHECK(params.size() == 0);
      const auto q = kvant::quantize(x, params);
      CHECK(q.rows() == rows);
      CHECK(q.bytes().empty());
      CHECK(kvant::dequantize<float>(q).values().empty());
      CHECK(kvant::requantize(q, params).bytes().empty());
    }
  }
}
