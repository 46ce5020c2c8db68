#include "dispatch/cpu_features.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define KVANT_X86 1
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace kvant::detail {

const char* feature_name(CpuFeature feature) noexcept {
  switch (feature) {
    case kAvx2: return "avx2";
    case kFma: return "fma";
    case kF16c: return "f16c";
    case kAvx512f: return "avx512f";
    case kAvx512bw: return "avx512bw";
    case kAvx512vl: return "avx512vl";
    case kAvx512dq: return "avx512dq";
    case kAvx512vnni: return "avx512_vnni";
    case kAvx512bf16: return "avx512_bf16";
    case kAvxvnni: return "avx_vnni";
  }
  return "?";
}

#if KVANT_X86
namespace {

/// The register sets that the operating system saves on a context switch (XCR0).
std::uint64_t saved_register_sets() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

}  // namespace

std::uint32_t detect_cpu_features() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return 0;
  const bool has_xgetbv = (ecx >> 27 & 1u) != 0;  // OSXSAVE
  if (!has_xgetbv) return 0;
  const std::uint64_t saved = saved_register_sets();
  const bool ymm = (saved & 0x6u) == 0x6u;    // SSE and AVX state
  const bool zmm = (saved & 0xE6u) == 0xE6u;  // and opmask, ZMM_Hi256, Hi16_ZMM
  std::uint32_t features = 0;
  const auto add = [&features](unsigned bit, bool usable, CpuFeature feature) {
    if (bit != 0 && usable) features |= feature;
  };
  const bool avx = (ecx >> 28 & 1u) != 0;
  add(ecx >> 12 & 1u, ymm && avx, kFma);
  add(ecx >> 29 & 1u, ymm && avx, kF16c);
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
    add(ebx >> 5 & 1u, ymm && avx, kAvx2);
    add(ebx >> 16 & 1u, zmm, kAvx512f);
    add(ebx >> 17 & 1u, zmm, kAvx512dq);
    add(ebx >> 30 & 1u, zmm, kAvx512bw);
    add(ebx >> 31 & 1u, zmm, kAvx512vl);
    add(ecx >> 11 & 1u, zmm, kAvx512vnni);
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
      add(eax >> 4 & 1u, ymm && avx, kAvxvnni);
      add(eax >> 5 & 1u, zmm, kAvx512bf16);
    }
  }
  return features;
}
#else
std::uint32_t detect_cpu_features() noexcept {
  return 0;
}
#endif

CacheSizes cache_sizes() noexcept {
  static const CacheSizes sizes = [] {
    CacheSizes found{32u << 10, 512u << 10};
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
    if (const long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE); l1 > 0) {
      found.l1_data = static_cast<std::size_t>(l1);
    }
    if (const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE); l2 > 0) {
      found.l2 = static_cast<std::size_t>(l2);
    }
#endif
    return found;
  }();
  return sizes;
}

}  // namespace kvant::detail
