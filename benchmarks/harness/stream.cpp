// The streaming read: what memory gives to one core. Several streams at once, because one stream
// does not keep enough cache lines in flight on every processor; the caller takes the best.

#include "harness/ceilings.hpp"

#if KVANT_BENCH_X86
#include <emmintrin.h>
#endif

namespace kvant::bench {

std::uint64_t read_stream(const void* data, std::int64_t size, int streams) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  const std::int64_t part = size / streams / 64 * 64;
#if KVANT_BENCH_X86
  // Loads of a whole cache line by four 16-byte loads: memory is the limit, not the load ports.
  __m128i sums[4] = {};
  for (std::int64_t i = 0; i + 64 <= part; i += 64) {
    for (int s = 0; s < streams; ++s) {
      const auto* line = reinterpret_cast<const __m128i*>(bytes + s * part + i);
      for (int j = 0; j < 4; ++j) sums[j] = _mm_xor_si128(sums[j], _mm_loadu_si128(line + j));
    }
  }
  const __m128i sum = _mm_xor_si128(_mm_xor_si128(sums[0], sums[1]), _mm_xor_si128(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sum));
#else
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i + 64 <= part; i += 64) {
    for (int s = 0; s < streams; ++s) {
      const auto* words = reinterpret_cast<const std::uint64_t*>(bytes + s * part + i);
      for (int j = 0; j < 8; ++j) sum ^= words[j];
    }
  }
  return sum;
#endif
}

}  // namespace kvant::bench
