#pragma once

/// @file
/// DType names an element type at run time; one table describes all of them.
/// Storage types: float16.hpp, float8.hpp, int4.hpp. Limits in torch's form: finfo.hpp.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/float16.hpp"

namespace kvant {

/// Element types. The order is the order of the descriptor table.
enum class DType : std::uint8_t {
  float64,
  float32,
  tf32,
  float16,
  bfloat16,
  float8_e4m3fn,
  float8_e5m2,
  float8_e4m3fnuz,
  float8_e5m2fnuz,
  float8_e8m0fnu,
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  int4,
  uint4,
  int2,
  uint2,
  boolean,
  // Listed and copied by the file readers, without conversions of their own:
  complex64,
  float6_e2m3fn,
  float6_e3m2fn,
  float4_e2m1fn,
};

/// What an element type counts.
enum class DTypeKind : std::uint8_t {
  floating,
  signed_integer,
  unsigned_integer,
  boolean,
  complex
};

/// What is to be known about an element type without looking at a value.
struct DTypeInfo {
  DType dtype;
  std::string_view name;  ///< torch's name where torch has one
  int bits;               ///< per element in storage; tf32 is stored in 32 and uses 19
  DTypeKind kind;
  int exponent_bits;             ///< 0 for integers
  int mantissa_bits;             ///< explicit bits; 0 for integers
  int exponent_bias;             ///< 0 for integers
  std::string_view safetensors;  ///< the name in a safetensors header; empty where it has none
};

namespace detail {
using enum DTypeKind;
inline constexpr std::array<DTypeInfo, 27> kDTypeTable{{
    {DType::float64, "float64", 64, floating, 11, 52, 1023, "F64"},
    {DType::float32, "float32", 32, floating, 8, 23, 127, "F32"},
    {DType::tf32, "tf32", 32, floating, 8, 10, 127, ""},
    {DType::float16, "float16", 16, floating, 5, 10, 15, "F16"},
    {DType::bfloat16, "bfloat16", 16, floating, 8, 7, 127, "BF16"},
    {DType::float8_e4m3fn, "float8_e4m3fn", 8, floating, 4, 3, 7, "F8_E4M3"},
    {DType::float8_e5m2, "float8_e5m2", 8, floating, 5, 2, 15, "F8_E5M2"},
    {DType::float8_e4m3fnuz, "float8_e4m3fnuz", 8, floating, 4, 3, 8, "F8_E4M3FNUZ"},
    {DType::float8_e5m2fnuz, "float8_e5m2fnuz", 8, floating, 5, 2, 16, "F8_E5M2FNUZ"},
    {DType::float8_e8m0fnu, "float8_e8m0fnu", 8, floating, 8, 0, 127, "F8_E8M0"},
    {DType::int64, "int64", 64, signed_integer, 0, 0, 0, "I64"},
    {DType::int32, "int32", 32, signed_integer, 0, 0, 0, "I32"},
    {DType::int16, "int16", 16, signed_integer, 0, 0, 0, "I16"},
    {DType::int8, "int8", 8, signed_integer, 0, 0, 0, "I8"},
    {DType::uint64, "uint64", 64, unsigned_integer, 0, 0, 0, "U64"},
    {DType::uint32, "uint32", 32, unsigned_integer, 0, 0, 0, "U32"},
    {DType::uint16, "uint16", 16, unsigned_integer, 0, 0, 0, "U16"},
    {DType::uint8, "uint8", 8, unsigned_integer, 0, 0, 0, "U8"},
    {DType::int4, "int4", 4, signed_integer, 0, 0, 0, ""},
    {DType::uint4, "uint4", 4, unsigned_integer, 0, 0, 0, ""},
    {DType::int2, "int2", 2, signed_integer, 0, 0, 0, ""},
    {DType::uint2, "uint2", 2, unsigned_integer, 0, 0, 0, ""},
    {DType::boolean, "bool", 8, DTypeKind::boolean, 0, 0, 0, "BOOL"},
    {DType::complex64, "complex64", 64, complex, 8, 23, 127, "C64"},
    {DType::float6_e2m3fn, "float6_e2m3fn", 6, floating, 2, 3, 1, "F6_E2M3"},
    {DType::float6_e3m2fn, "float6_e3m2fn", 6, floating, 3, 2, 3, "F6_E3M2"},
    {DType::float4_e2m1fn, "float4_e2m1fn", 4, floating, 2, 1, 1, "F4"},
}};
}  // namespace detail

/// All descriptors, in the order of the enumeration.
constexpr const auto& dtype_table() noexcept {
  return detail::kDTypeTable;
}

/// The row of a type. Costs nothing.
constexpr const DTypeInfo& describe(DType dtype) noexcept {
  return detail::kDTypeTable[static_cast<std::size_t>(dtype)];
}

/// kvant's (torch's) name of a type, e.g. "bfloat16".
constexpr std::string_view to_string(DType dtype) noexcept {
  return describe(dtype).name;
}

/// By kvant's (torch's) name, e.g. "bfloat16"; nothing if there is no such type.
constexpr std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const DTypeInfo& info : dtype_table()) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

/// By safetensors name, e.g. "BF16"; case matters, as in the format.
constexpr std::optional<DType> dtype_from_safetensors(std::string_view name) noexcept {
  if (name.empty()) return std::nullopt;
  for (const DTypeInfo& info : dtype_table()) {
    if (info.safetensors == name) return info.dtype;
  }
  return std::nullopt;
}

/// dtype_of<T>: the DType that a storage type T holds. Specialised beside each storage type.
template <class T>
struct DTypeOf;

/// @cond
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<float16> {
  static constexpr DType value = DType::float16;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::bfloat16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<std::int16_t> {
  static constexpr DType value = DType::int16;
};
template <>
struct DTypeOf<std::int8_t> {
  static constexpr DType value = DType::int8;
};
template <>
struct DTypeOf<std::uint64_t> {
  static constexpr DType value = DType::uint64;
};
template <>
struct DTypeOf<std::uint32_t> {
  static constexpr DType value = DType::uint32;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType value = DType::uint16;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::uint8;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::boolean;
};
template <class T>
struct DTypeOf<const T> : DTypeOf<T> {};
/// @endcond

/// The DType of a storage type: dtype_of<float> is DType::float32.
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace kvant
