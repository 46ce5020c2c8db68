#pragma once

// Shared by the microkernel templates. Everything under src/cpu/micro is included by translation
// units with their own instruction set flags, so it is in an unnamed namespace (each unit gets
// its own copy; nothing here may become a weak symbol that the linker keeps for all) and uses no
// function of the standard library.
//
// The templates are written over a traits type S: one thin member per instruction
// (simd_concept.hpp). tests/kernels/emulated_simd.hpp says the same with plain arrays and runs the
// templates on every machine.

#include <cstddef>
#include <cstdint>

#include "kvant/kernel_table.hpp"

// Loops over registers must unroll completely, or the compiler keeps accumulators in memory.
// (The emulated instruction sets of the tests define it as nothing: they have no registers.)
#if defined(KVANT_UNROLL)
#elif defined(__clang__)
#define KVANT_UNROLL _Pragma("unroll")
#else
#define KVANT_UNROLL _Pragma("GCC unroll 32")
#endif

namespace kvant {
namespace {

template <class T>
inline const T* offset_bytes(const void* base, std::int64_t bytes) noexcept {
  return reinterpret_cast<const T*>(static_cast<const unsigned char*>(base) + bytes);
}

/// Copies `count` < S::kLanes elements into a zeroed buffer, so that a remainder takes the same
/// vector path as everything else and no byte past the end is read.
template <class S, class T>
struct PaddedTail {
  alignas(64) T values[S::kLanes];

  PaddedTail(const T* from, std::int64_t count) noexcept {
    for (int i = 0; i < S::kLanes; ++i) values[i] = T{};
    __builtin_memcpy(values, from, static_cast<std::size_t>(count) * sizeof(T));
  }
};

/// Element types of float matrices, as the loads of S name them.
struct F32 {
  static constexpr bool kIsBFloat = false;
  using type = float;
  template <class S>
  static typename S::F load(const float* p) noexcept {
    return S::load_f32(p);
  }
  template <class S>
  static void store(float* p, typename S::F v) noexcept {
    S::store_f32(p, v);
  }
  template <class S>
  static typename S::F round(typename S::F v) noexcept {
    return v;
  }
};
struct F16 {
  static constexpr bool kIsBFloat = false;
  using type = std::uint16_t;
  template <class S>
  static typename S::F load(const std::uint16_t* p) noexcept {
    return S::load_f16(p);
  }
  template <class S>
  static void store(std::uint16_t* p, typename S::F v) noexcept {
    S::store_f16(p, v);
  }
  template <class S>
  static typename S::F round(typename S::F v) noexcept {
    return S::round_f16(v);
  }
};
struct BF16 {
  static constexpr bool kIsBFloat = true;
  using type = std::uint16_t;
  template <class S>
  static typename S::F load(const std::uint16_t* p) noexcept {
    return S::load_bf16(p);
  }
  template <class S>
  static void store(std::uint16_t* p, typename S::F v) noexcept {
    S::store_bf16(p, v);
  }
  template <class S>
  static typename S::F round(typename S::F v) noexcept {
    return S::round_bf16(v);
  }
};

template <class S, class T>
inline typename S::F load_floats(const typename T::type* p, std::int64_t count) noexcept {
  if (count >= S::kLanes) return T::template load<S>(p);
  const PaddedTail<S, typename T::type> tail(p, count);
  return T::template load<S>(tail.values);
}

template <class S, class T>
inline void store_floats(typename T::type* p, typename S::F v, std::int64_t count) noexcept {
  if (count >= S::kLanes) {
    T::template store<S>(p, v);
    return;
  }
  alignas(64) typename T::type buffer[S::kLanes];
  T::template store<S>(buffer, v);
  __builtin_memcpy(p, buffer, static_cast<std::size_t>(count) * sizeof(*p));
}

/// Calls f with the tag of a float type.
template <class Function>
inline void with_float_type(DType dtype, Function&& f) noexcept {
  switch (dtype) {
    case DType::float16: f(F16{}); break;
    case DType::bfloat16: f(BF16{}); break;
    default: f(F32{}); break;
  }
}

}  // namespace
}  // namespace kvant
