// The streaming read: what memory gives to one core. Several streams at once, because one stream
// does not keep enough cache lines in flight on every processor, with and without prefetching; the
// caller takes the best.

#include "harness/ceilings.hpp"

#if KVANT_BENCH_X86
#include <immintrin.h>
#endif

namespace kvant::bench {
namespace {

/// How far ahead the prefetching variants ask for their lines.
constexpr std::int64_t kAhead = 2048;

#if KVANT_BENCH_X86
inline void ask_for_two_lines(const unsigned char* line) {
  __builtin_prefetch(line);
  __builtin_prefetch(line + 64);
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const unsigned char* bytes,
                                                             std::int64_t part, int streams,
                                                             bool prefetch) {
  __m512i sum = _mm512_setzero_si512();
  __m512i other = _mm512_setzero_si512();
  for (std::int64_t i = 0; i + 128 <= part; i += 128) {
    for (int s = 0; s < streams; ++s) {
      const unsigned char* line = bytes + s * part + i;
      if (prefetch) ask_for_two_lines(line + kAhead);
      sum = _mm512_xor_si512(sum, _mm512_loadu_si512(line));
      other = _mm512_xor_si512(other, _mm512_loadu_si512(line + 64));
    }
  }
  return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(_mm512_xor_si512(sum, other)));
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(const unsigned char* bytes,
                                                        std::int64_t part, int streams,
                                                        bool prefetch) {
  __m256i sums[4] = {};
  for (std::int64_t i = 0; i + 128 <= part; i += 128) {
    for (int s = 0; s < streams; ++s) {
      const unsigned char* line = bytes + s * part + i;
      if (prefetch) ask_for_two_lines(line + kAhead);
      for (int j = 0; j < 4; ++j) {
        sums[j] = _mm256_xor_si256(
            sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 32 * j)));
      }
    }
  }
  const __m256i sum =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(sum, 0) ^ _mm256_extract_epi64(sum, 2));
}
#endif

std::uint64_t read_plain(const unsigned char* bytes, std::int64_t part, int streams,
                         bool prefetch) {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i + 64 <= part; i += 64) {
    for (int s = 0; s < streams; ++s) {
      if (prefetch) __builtin_prefetch(bytes + s * part + i + kAhead);
      const auto* words = reinterpret_cast<const std::uint64_t*>(bytes + s * part + i);
      for (int j = 0; j < 8; ++j) sum ^= words[j];
    }
  }
  return sum;
}

}  // namespace

std::uint64_t read_stream(const void* data, std::int64_t size, int streams, bool prefetch) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  const std::int64_t part = size / streams / 128 * 128;
#if KVANT_BENCH_X86
  if (__builtin_cpu_supports("avx512f")) return read_avx512(bytes, part, streams, prefetch);
  if (__builtin_cpu_supports("avx2")) return read_avx2(bytes, part, streams, prefetch);
#endif
  return read_plain(bytes, part, streams, prefetch);
}

}  // namespace kvant::bench
