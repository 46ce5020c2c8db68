#include "dispatch/cpu_features.hpp"

#include <algorithm>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#define KVANT_X86 1
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
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
    case kNeon: return "asimd";
    case kDotprod: return "asimddp";
    case kI8mm: return "i8mm";
    case kAmxTile: return "amx_tile";
    case kAmxInt8: return "amx_int8";
    case kAmxGranted: return "leave of the operating system to use AMX's registers";
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
  const bool amx = (saved & 0x60000u) == 0x60000u;
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
    add(edx >> 24 & 1u, amx, kAmxTile);
    add(edx >> 25 & 1u, amx, kAmxInt8);
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
      add(eax >> 4 & 1u, ymm && avx, kAvxvnni);
      add(eax >> 5 & 1u, zmm, kAvx512bf16);
    }
  }
  return features;
}
#elif defined(__aarch64__)
namespace {

#if defined(__APPLE__)
bool has(const char* name) noexcept {
  int value = 0;
  std::size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() noexcept {
  return has("hw.optional.arm.FEAT_DotProd");
}
bool has_i8mm() noexcept {
  return has("hw.optional.arm.FEAT_I8MM");
}
#elif defined(__linux__)
// The kernel's bits, by number: not every C library's header has their names.
bool has_dotprod() noexcept {
  return (getauxval(AT_HWCAP) >> 20 & 1u) != 0;  // HWCAP_ASIMDDP
}
bool has_i8mm() noexcept {
  return (getauxval(AT_HWCAP2) >> 13 & 1u) != 0;  // HWCAP2_I8MM
}
#else
bool has_dotprod() noexcept {
  return false;
}
bool has_i8mm() noexcept {
  return false;
}
#endif

}  // namespace

std::uint32_t detect_cpu_features() noexcept {
  return kNeon | (has_dotprod() ? kDotprod : 0u) | (has_i8mm() ? kI8mm : 0u);
}
#else
std::uint32_t detect_cpu_features() noexcept {
  return 0;
}
#endif

bool ask_for_amx() noexcept {
#if KVANT_X86 && defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kAmxRegisters = 18;           // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kAmxRegisters) == 0;
#else
  return false;
#endif
}

std::int64_t sane_l2_bytes(long reported) noexcept {
  return reported <= 0 ? 512 << 10 : std::clamp<std::int64_t>(reported, 64 << 10, 4 << 20);
}

std::int64_t l2_bytes() noexcept {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const std::int64_t bytes = sane_l2_bytes(sysconf(_SC_LEVEL2_CACHE_SIZE));
#else
  static const std::int64_t bytes = sane_l2_bytes(0);
#endif
  return bytes;
}

}  // namespace kvant::detail
