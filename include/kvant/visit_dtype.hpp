#pragma once

/// @file
/// visit_dtype: from a DType known at run time to its storage type.

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/tf32.hpp"

namespace kvant {

/// Calls f(std::type_identity<T>{}) with the storage type T of `dtype` and returns what f returns
/// (the same type for every T).
/// @throws Error unsupported for the types that are only listed (complex64, float6, float4).
template <class F>
constexpr decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float64: return std::forward<F>(f)(std::type_identity<double>{});
    case DType::float32: return std::forward<F>(f)(std::type_identity<float>{});
    case DType::tf32: return std::forward<F>(f)(std::type_identity<tf32>{});
    case DType::float16: return std::forward<F>(f)(std::type_identity<float16>{});
    case DType::bfloat16: return std::forward<F>(f)(std::type_identity<bfloat16>{});
    case DType::float8_e4m3fn: return std::forward<F>(f)(std::type_identity<float8_e4m3fn>{});
    case DType::float8_e5m2: return std::forward<F>(f)(std::type_identity<float8_e5m2>{});
    case DType::float8_e4m3fnuz: return std::forward<F>(f)(std::type_identity<float8_e4m3fnuz>{});
    case DType::float8_e5m2fnuz: return std::forward<F>(f)(std::type_identity<float8_e5m2fnuz>{});
    case DType::float8_e8m0fnu: return std::forward<F>(f)(std::type_identity<float8_e8m0fnu>{});
    case DType::int64: return std::forward<F>(f)(std::type_identity<std::int64_t>{});
    case DType::int32: return std::forward<F>(f)(std::type_identity<std::int32_t>{});
    case DType::int16: return std::forward<F>(f)(std::type_identity<std::int16_t>{});
    case DType::int8: return std::forward<F>(f)(std::type_identity<std::int8_t>{});
    case DType::uint64: return std::forward<F>(f)(std::type_identity<std::uint64_t>{});
    case DType::uint32: return std::forward<F>(f)(std::type_identity<std::uint32_t>{});
    case DType::uint16: return std::forward<F>(f)(std::type_identity<std::uint16_t>{});
    case DType::uint8: return std::forward<F>(f)(std::type_identity<std::uint8_t>{});
    case DType::int4: return std::forward<F>(f)(std::type_identity<int4>{});
    case DType::uint4: return std::forward<F>(f)(std::type_identity<uint4>{});
    case DType::int2: return std::forward<F>(f)(std::type_identity<int2>{});
    case DType::uint2: return std::forward<F>(f)(std::type_identity<uint2>{});
    case DType::boolean: return std::forward<F>(f)(std::type_identity<bool>{});
    case DType::complex64:
    case DType::float6_e2m3fn:
    case DType::float6_e3m2fn:
    case DType::float4_e2m1fn: break;
  }
  throw Error(ErrorCode::unsupported,
              "visit_dtype: kvant has no storage type for " + std::string(to_string(dtype)));
}

}  // namespace kvant
