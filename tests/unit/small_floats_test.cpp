// Exhaustive and boundary tests of the storage types' conversions.

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/tf32.hpp"
#include "kvant/visit_dtype.hpp"
#include "support/catch.hpp"
#include "support/special_floats.hpp"

namespace {

using kvant::bfloat16;
using kvant::float16;
using kvant::test::kInf;
using kvant::test::kNaN;

// Every code decodes and encodes to itself, and the midpoint between neighbours goes to the even
// one, a float's breadth beside it to the nearer one.
template <class T>
void check_all_codes() {
  constexpr unsigned kSignBit = 1u << (8 * sizeof(T) - 1);
  using Bits = decltype(T::bits);
  float previous = 0;
  for (unsigned code = 0; code < 2 * kSignBit; ++code) {
    const T value = T::from_bits(static_cast<Bits>(code));
    const auto wide = static_cast<float>(value);
    CAPTURE(code, wide);
    if (code == kSignBit) previous = 0;  // a NaN in the fnuz types
    if (std::isnan(wide)) {
      REQUIRE(std::isnan(static_cast<float>(T(wide))));
      continue;
    }
    REQUIRE(T(wide).bits == value.bits);
    if ((code & (kSignBit - 1)) != 0 && std::isfinite(wide)) {
      const float middle = previous + (wide - previous) / 2;  // exact: two adjacent codes
      const unsigned even = (code - (code & 1)) & (kSignBit - 1);
      const float toward_zero = std::nextafter(middle, previous);
      const float away = std::nextafter(middle, wide);
      REQUIRE(std::abs(static_cast<float>(T(middle))) ==
              static_cast<float>(T::from_bits(static_cast<Bits>(even))));
      if (toward_zero != previous) REQUIRE(static_cast<float>(T(toward_zero)) == previous);
      REQUIRE(T(away).bits == code);
    }
    previous = wide;
  }
}

}  // namespace

TEST_CASE("all 65,536 halves and bfloats round trip, ties go to even") {
  check_all_codes<float16>();
  check_all_codes<bfloat16>();
}

TEST_CASE("all 256 codes of each float8 round trip, ties go to even") {
  check_all_codes<kvant::float8_e4m3fn>();
  check_all_codes<kvant::float8_e5m2>();
  check_all_codes<kvant::float8_e4m3fnuz>();
  check_all_codes<kvant::float8_e5m2fnuz>();
  for (unsigned code = 0; code < 255; ++code) {  // a tie goes up in e8m0: a scale must not shrink
    const auto scale = kvant::float8_e8m0fnu::from_bits(static_cast<std::uint8_t>(code));
    const auto wide = static_cast<float>(scale);
    REQUIRE(kvant::float8_e8m0fnu(wide).bits == code);
    REQUIRE(kvant::float8_e8m0fnu(-wide).bits == code);
    if (code > 0) REQUIRE(kvant::float8_e8m0fnu(wide * 1.5f).bits == code + 1);
    if (code > 0) REQUIRE(kvant::float8_e8m0fnu(std::nextafter(wide * 1.5f, 0.0f)).bits == code);
  }
  CHECK(std::isnan(static_cast<float>(kvant::float8_e8m0fnu(kInf))));
  CHECK(kvant::float8_e8m0fnu(0.0f).bits == 0);
}

TEST_CASE("float16 and bfloat16 at their edges") {
  CHECK(float16(65519.996f).bits == 0x7BFF);
  CHECK(float16(65520.0f).bits == 0x7C00);
  CHECK(float16(-kInf).bits == 0xFC00);
  CHECK(float16(0x1p-25f).bits == 0x0000);
  CHECK(float16(std::nextafter(0x1p-25f, 1.0f)).bits == 0x0001);
  CHECK(float16(0x1p-24f).bits == 0x0001);
  CHECK(float16(0x1.8p-24f).bits == 0x0002);
  CHECK(float16(0x1p-14f).bits == 0x0400);
  CHECK(float16(-0.0f).bits == 0x8000);
  CHECK(bfloat16(1.00390625f).bits == 0x3F80);
  CHECK(bfloat16(1.01171875f).bits == 0x3F82);
  CHECK(bfloat16(1.01953125f).bits == 0x3F82);
  CHECK(bfloat16(std::bit_cast<float>(0x7F7F8000u)).bits == 0x7F80);
  CHECK(bfloat16(std::bit_cast<float>(0x7F7F7FFFu)).bits == 0x7F7F);
  for (const std::uint32_t nan :
       {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu, 0x7FC00000u}) {
    CHECK(std::isnan(static_cast<float>(float16(std::bit_cast<float>(nan)))));
    CHECK(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(nan)))));
    CHECK(std::isnan(static_cast<float>(kvant::tf32(std::bit_cast<float>(nan)))));
    CHECK(std::isnan(static_cast<float>(kvant::float8_e5m2(std::bit_cast<float>(nan)))));
  }
}

TEST_CASE("float8 beyond its range: torch's cast, saturating, special") {
  using kvant::Float8Overflow;
  using E4 = kvant::float8_e4m3fn;
  using E5 = kvant::float8_e5m2;
  using E4z = kvant::float8_e4m3fnuz;
  CHECK(E4(464.0f).bits == 0x7E);
  CHECK(E4(465.0f).bits == 0x7E);
  CHECK(E4(-1e30f).bits == 0xFE);
  CHECK(E4(kInf).bits == 0x7E);
  CHECK(E4::from_float(464.0f, Float8Overflow::special).bits == 0x7E);
  CHECK(std::isnan(static_cast<float>(E4::from_float(465.0f, Float8Overflow::special))));
  CHECK(std::isnan(static_cast<float>(E4::from_float(-kInf, Float8Overflow::special))));
  CHECK(std::isnan(static_cast<float>(E4::from_float(kNaN, Float8Overflow::saturate))));
  CHECK(E5(61439.996f).bits == 0x7B);
  CHECK(E5(61440.0f).bits == 0x7C);
  CHECK(E5(-kInf).bits == 0xFC);
  CHECK(E5::from_float(kInf, Float8Overflow::saturate).bits == 0x7B);
  CHECK(E5::from_float(-1e9f, Float8Overflow::saturate).bits == 0xFB);
  CHECK(E4z(1e9f).bits == 0x80);
  CHECK(E4z::from_float(-1e9f, Float8Overflow::saturate).bits == 0xFF);
  CHECK(E4z(-0.0f).bits == 0x00);
  CHECK(E4(0x1p-10f).bits == 0x00);
  CHECK(E4(std::nextafter(0x1p-10f, 1.0f)).bits == 0x01);
  CHECK(E5(0x1p-17f).bits == 0x00);
  CHECK(kvant::float8_e8m0fnu::from_float(kInf, Float8Overflow::saturate).bits == 0xFE);
  STATIC_REQUIRE(static_cast<float>(E4(3.3f)) == 3.25f);
  STATIC_REQUIRE(float16(1.0f).bits == 0x3C00);
}

TEST_CASE("tf32 keeps ten mantissa bits") {
  CHECK(kvant::tf32(1.0f + 0x1p-11f).bits == 0x3F800000);  // tie to even
  CHECK(kvant::tf32(1.0f + 0x1.8p-10f).bits == 0x3F804000);
  CHECK(static_cast<float>(kvant::tf32(std::numeric_limits<float>::max())) == kInf);
  CHECK(kvant::tf32(-kInf).bits == 0xFF800000);
  CHECK((kvant::tf32(1.0f / 3.0f).bits & 0x1FFF) == 0);
  CHECK(static_cast<float>(kvant::tf32(0x1p-149f)) == 0.0f);
  CHECK(static_cast<float>(kvant::tf32(0x1p-136f)) == 0x1p-136f);
}

TEST_CASE("small integers saturate, and pack low bits first") {
  CHECK(kvant::int4(100).value == 7);
  CHECK(kvant::int4(-100).value == -8);
  CHECK(kvant::uint4(-1).value == 0);
  CHECK(kvant::int2(5).value == 1);
  CHECK(kvant::uint2(3).value == 3);
  for (int bits = 0; bits < 256; ++bits) {
    const auto byte = static_cast<std::uint8_t>(bits);
    CHECK(kvant::int4::from_bits(byte).to_bits() == (bits & 15));
    CHECK(kvant::uint2::from_bits(byte).to_bits() == (bits & 3));
  }
  CHECK(kvant::int4::from_bits(0xF).value == -1);

  const std::vector<kvant::uint4> row{kvant::uint4(1), kvant::uint4(2), kvant::uint4(15)};
  std::vector<std::uint8_t> bytes(2, 0xAA);
  kvant::pack<4, false>(row, bytes.data());
  CHECK(bytes == std::vector<std::uint8_t>{0x21, 0x0F});

  for (const int count : {0, 1, 3, 4, 5, 12, 101}) {
    std::vector<kvant::int2> values;
    for (int i = 0; i < count; ++i) values.emplace_back(i % 4 - 2);
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(kvant::packed_bytes(count, 2)) + 1,
                                     7);
    kvant::pack<2, true>(values, packed.data());
    CHECK(packed.back() == 7);
    std::vector<kvant::int2> back(values.size());
    kvant::unpack<2, true>(packed.data(), back);
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(back[i].value == values[i].value);
  }
}

TEST_CASE("the descriptor table and visit agree with the storage types") {
  for (const kvant::DTypeInfo& info : kvant::dtype_table()) {
    CAPTURE(info.name);
    CHECK(&kvant::describe(info.dtype) == &info);
    CHECK(kvant::dtype_from_name(info.name) == info.dtype);
    if (!info.safetensors.empty())
      CHECK(kvant::dtype_from_safetensors(info.safetensors) == info.dtype);
    if (info.kind == kvant::DTypeKind::complex || info.bits == 6 || info.name == "float4_e2m1fn") {
      CHECK_THROWS_AS(kvant::visit_dtype(info.dtype, [](auto) {}), kvant::Error);
      continue;
    }
    kvant::visit_dtype(info.dtype, [&]<class T>(std::type_identity<T>) {
      CHECK(kvant::dtype_of<T> == info.dtype);
      CHECK(static_cast<int>(sizeof(T)) == (info.bits + 7) / 8);
    });
  }
}
