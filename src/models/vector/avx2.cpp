#include <immintrin.h>

#include <cstdint>

namespace kvant::models {
namespace {
constexpr int kPartLanes = 8;
constexpr int kRows = 2;
constexpr int kChunks = 2;
inline __m256 widen(const std::int8_t* p) noexcept {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline __m256 widen(const std::uint16_t* p) noexcept {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
}  // namespace
}  // namespace kvant::models

#include "models/vector/body.hpp"

namespace kvant::models {

const VectorKernels vector_kernels_avx2 = {scores, softmax, mix, gate, panel, dot};

}  // namespace kvant::models
