// Element types against torch's figures (tests/data/dtype) and exhaustively against themselves.

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "kvant/dtype.hpp"
#include "kvant/exact_decimal.hpp"
#include "kvant/finfo.hpp"
#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/tf32.hpp"
#include "kvant/visit_dtype.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/sha256.hpp"

namespace {

using kvant::DType;
using kvant::test::number;

const nlohmann::json& golden() {
  static const nlohmann::json data = kvant::test::read_json("dtype/dtype.json");
  return data;
}

DType dtype_named(const std::string& name) {
  const auto dtype = kvant::dtype_from_name(name);
  REQUIRE(dtype.has_value());
  return *dtype;
}

}  // namespace

TEST_CASE("finfo has torch's fields, values and printed form") {
  for (const auto& [name, expected] : golden()["finfo"].items()) {
    CAPTURE(name);
    const kvant::FloatInfo info = kvant::finfo(dtype_named(name));
    CHECK(info.bits == expected["bits"].get<int>());
    CHECK(info.eps == number(expected["hex"]["eps"]));
    CHECK(info.max == number(expected["hex"]["max"]));
    CHECK(info.min == number(expected["hex"]["min"]));
    CHECK(info.tiny == number(expected["hex"]["tiny"]));
    CHECK(info.smallest_normal == number(expected["smallest_normal"]));
    CHECK(info.resolution == number(expected["hex"]["resolution"]));
    CHECK(kvant::to_string(info) == expected["repr"].get<std::string>());
  }
  STATIC_REQUIRE(kvant::finfo<kvant::bfloat16>().eps == 0.0078125);
  STATIC_REQUIRE(kvant::finfo<kvant::float8_e4m3fn>().max == 448);
  CHECK(kvant::finfo<kvant::tf32>().resolution == 1e-3);
  CHECK(kvant::finfo<double>().max == std::numeric_limits<double>::max());
  CHECK(kvant::finfo(DType::complex64).dtype == DType::float32);
}

TEST_CASE("iinfo has torch's fields, values and printed form") {
  for (const auto& [name, expected] : golden()["iinfo"].items()) {
    CAPTURE(name);
    const kvant::IntInfo info = kvant::iinfo(dtype_named(name));
    CHECK(info.bits == expected["bits"].get<int>());
    CHECK(info.min == expected["min"].get<std::int64_t>());
    CHECK(info.max == expected["max"].get<std::uint64_t>());
    CHECK(kvant::to_string(info) == expected["repr"].get<std::string>());
  }
  STATIC_REQUIRE(kvant::iinfo<std::int8_t>().max == 127);
  STATIC_REQUIRE(kvant::iinfo<kvant::int4>().min == -8);
  STATIC_REQUIRE(kvant::iinfo<kvant::uint2>().max == 3);
}

TEST_CASE("finfo of an integer and iinfo of a float say what to ask instead") {
  CHECK_THROWS_WITH(kvant::finfo(DType::int8), Catch::Contains("int8") && Catch::Contains("iinfo"));
  CHECK_THROWS_WITH(kvant::iinfo(DType::bfloat16),
                    Catch::Contains("bfloat16") && Catch::Contains("finfo"));
  CHECK_THROWS_AS(kvant::iinfo(DType::boolean), kvant::Error);
  CHECK_THROWS_AS(kvant::finfo(DType::boolean), kvant::Error);
  CHECK_THROWS_AS(kvant::finfo(DType::float4_e2m1fn), kvant::Error);
}

TEST_CASE("one third in every type, to 60 digits and exactly") {
  for (const auto& [name, expected] : golden()["one_third"].items()) {
    CAPTURE(name);
    double value = 0;
    std::uint64_t bits = 0;
    kvant::visit_dtype(dtype_named(name), [&]<class T>(std::type_identity<T>) {
      if constexpr (std::is_same_v<T, double>) {
        value = 1.0 / 3.0;
        bits = std::bit_cast<std::uint64_t>(value);
      } else if constexpr (std::is_same_v<T, float>) {
        value = static_cast<double>(1.0f / 3.0f);
        bits = std::bit_cast<std::uint32_t>(1.0f / 3.0f);
      } else if constexpr (requires(T t) { t.bits; }) {
        const T third(1.0f / 3.0f);
        value = static_cast<double>(static_cast<float>(third));
        bits = third.bits;
      }
    });
    CHECK(bits == expected["bits"].get<std::uint64_t>());
    CHECK(kvant::exact_decimal(value, 60) == expected["formatted_60"].get<std::string>());
    CHECK(kvant::exact_decimal(value) == expected["exact"].get<std::string>());
  }
}

TEST_CASE("exact_decimal agrees with an exact printf") {
  std::uint64_t state = 1;
  for (int i = 0; i < 20'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto value = std::bit_cast<double>(state ^ (state >> 29));
    if (!std::isfinite(value)) continue;
    const int digits = i % 70;
    std::string expected(2000, '\0');
    const int length = std::snprintf(expected.data(), expected.size(), "%.*f", digits, value);
    expected.resize(static_cast<std::size_t>(length));
    REQUIRE(kvant::exact_decimal(value, digits) == expected);
  }
  CHECK(kvant::exact_decimal(0.5, 0) == "0");
  CHECK(kvant::exact_decimal(1.5, 0) == "2");
  CHECK(kvant::exact_decimal(2.5, 0) == "2");
  CHECK(kvant::exact_decimal(99.99609375, 1) == "100.0");
  CHECK(kvant::exact_decimal(0.0) == "0");
  CHECK(kvant::exact_decimal(-0.0, 2) == "-0.00");
  CHECK(kvant::exact_decimal(0x1p70) == "1180591620717411303424");
  CHECK(kvant::exact_decimal(-std::numeric_limits<double>::infinity(), 3) == "-inf");
  CHECK(kvant::exact_decimal(std::nan("")) == "nan");
  CHECK_THROWS_AS(kvant::exact_decimal(1.0, 100'001), kvant::Error);
}

TEST_CASE("every code of every small float decodes to torch's float32") {
  for (const auto& item : golden()["decode_all_codes"].items()) {
    const std::string& name = item.key();
    const nlohmann::json& expected = item.value();
    CAPTURE(name);
    std::vector<std::uint8_t> bytes;
    int nans = 0;
    kvant::visit_dtype(dtype_named(name), [&]<class T>(std::type_identity<T>) {
      if constexpr (requires(T t) { T::from_bits(t.bits); } && sizeof(T) <= 2) {
        const unsigned codes = 1u << (8 * sizeof(T));
        for (unsigned code = 0; code < codes; ++code) {
          const auto value = static_cast<float>(T::from_bits(static_cast<decltype(T::bits)>(code)));
          nans += std::isnan(value) ? 1 : 0;
          const std::uint32_t bits =
              std::isnan(value) ? 0x7fc00000u : std::bit_cast<std::uint32_t>(value);
          for (int shift = 0; shift < 32; shift += 8) {
            bytes.push_back(static_cast<std::uint8_t>(bits >> shift));
          }
          if (!expected["table"].is_null()) {
            const double want = number(expected["table"][code]);
            REQUIRE((std::isnan(want) ? std::isnan(value) : static_cast<double>(value) == want));
          }
        }
      }
    });
    CHECK(bytes.size() == expected["codes"].get<std::size_t>() * 4);
    CHECK(nans == expected["nan"].get<int>());
    CHECK(kvant::test::sha256(std::as_bytes(std::span(bytes))) ==
          expected["sha256"].get<std::string>());
  }
}

TEST_CASE("25,525 float32 patterns round as torch rounds them") {
  const kvant::io::SafeTensors file(kvant::test::data_path("dtype/encode.safetensors"));
  const auto patterns = file.values<std::int32_t>("float32_bits");
  const auto half = file.values<std::int16_t>("float16");
  const auto bfloat = file.values<std::int16_t>("bfloat16");
  const auto e4m3 = file.values<std::uint8_t>("float8_e4m3fn");
  const auto e5m2 = file.values<std::uint8_t>("float8_e5m2");
  REQUIRE(patterns.size() == 25525);
  const auto same = [](auto mine, auto theirs) {
    using T = decltype(mine);
    const auto want = T::from_bits(static_cast<decltype(T::bits)>(theirs));
    const bool nan = std::isnan(static_cast<float>(want));
    return nan ? std::isnan(static_cast<float>(mine)) : mine.bits == want.bits;
  };
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const auto x = std::bit_cast<float>(patterns[i]);
    CAPTURE(i, x);
    REQUIRE(same(kvant::float16(x), half[i]));
    REQUIRE(same(kvant::bfloat16(x), bfloat[i]));
    REQUIRE(same(kvant::float8_e4m3fn(x), e4m3[i]));
    REQUIRE(same(kvant::float8_e5m2(x), e5m2[i]));
  }
}

TEST_CASE("a dot product in fp32 and in bf16") {
  const kvant::io::SafeTensors file(kvant::test::data_path("dtype/downcast_dot.safetensors"));
  const auto x = file.values<float>("fp32");
  const auto low = file.values<kvant::bfloat16>("bf16");
  double exact = 0;
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    REQUIRE(kvant::bfloat16(x[i]).bits == low[i].bits);
    exact += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sum += static_cast<float>(low[i]) * static_cast<float>(low[i]);
  }
  CHECK(exact == Approx(golden()["downcast_dot"]["fp32_dot"].get<double>()).epsilon(1e-6));
  CHECK(static_cast<float>(kvant::bfloat16(sum)) ==
        golden()["downcast_dot"]["bf16_dot"].get<float>());
}
