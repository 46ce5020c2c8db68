#include <immintrin.h>

#include <cstdint>

namespace kvant::models {
namespace {
constexpr int kPartLanes = 16;
constexpr int kRows = 4;
constexpr int kChunks = 4;
inline __m512 widen(const std::int8_t* p) noexcept {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline __m512 widen(const std::uint16_t* p) noexcept {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
}  // namespace
}  // namespace kvant::models

#include "models/vector/body.hpp"

namespace kvant::models {

const VectorKernels vector_kernels_avx512 = {scores, softmax, mix, gate, panel, dot};

}  // namespace kvant::models
