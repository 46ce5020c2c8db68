// vdpbf16ps against its emulation: up to the order of its sum. Compiled with the flags of the
// bfloat16 kernels.

#include "cpu/x86/simd_avx512.hpp"

#include "kernels/emulated_simd.hpp"

namespace kvant::test {

const char* compare_avx512bf16_members() {
  alignas(64) std::uint16_t a[32] = {};
  alignas(64) std::uint16_t b[32] = {};
  for (int i = 0; i < 32; ++i) {
    a[i] = detail::float_to_bfloat_bits(static_cast<float>(i * 7 % 13) - 5.5f);
    b[i] = detail::float_to_bfloat_bits(0.25f * static_cast<float>(i * 5 % 17) - 2.0f);
  }
  const auto* aw = reinterpret_cast<const std::int32_t*>(a);
  const auto* bw = reinterpret_cast<const std::int32_t*>(b);
  float got[16] = {};
  float want[16] = {};
  Avx512::store_f32(
      got, Avx512Bf16::dot_bf16(Avx512::set1(1.5f), Avx512::load_i32(aw), Avx512::load_i32(bw)));
  using E = EmulatedAvx512Vnni;
  E::store_f32(want, E::dot_bf16(E::set1(1.5f), E::load_i32(aw), E::load_i32(bw)));
  for (int i = 0; i < 16; ++i) {
    if (got[i] - want[i] > 1e-5f || want[i] - got[i] > 1e-5f) return "dot_bf16";
  }
  return nullptr;
}

}  // namespace kvant::test
