#pragma once

// What the processor has and the operating system saves, and the size of the second-level cache.

#include <cstdint>

namespace kvant::detail {

enum CpuFeature : std::uint32_t {
  kAvx2 = 1u << 0,
  kFma = 1u << 1,
  kF16c = 1u << 2,
  kAvx512f = 1u << 3,
  kAvx512bw = 1u << 4,
  kAvx512vl = 1u << 5,
  kAvx512dq = 1u << 6,
  kAvx512vnni = 1u << 7,
  kAvx512bf16 = 1u << 8,
  kAvxvnni = 1u << 9,
  kNeon = 1u << 10,
  kDotprod = 1u << 11,
  kI8mm = 1u << 12,
  kAmxTile = 1u << 13,
  kAmxInt8 = 1u << 14,
  kAmxGranted = 1u << 15,  ///< what ask_for_amx() says; not detected
};

/// The name of one feature, as /proc/cpuinfo and compilers spell it.
[[nodiscard]] const char* feature_name(CpuFeature feature) noexcept;

/// Features that instructions may use. x86: CPUID reports them and XGETBV says that the operating
/// system saves their registers (AMX's: once ask_for_amx() was granted that). ARM: the operating
/// system says so (HWCAP; sysctl on macOS). Cheap; not cached here.
[[nodiscard]] std::uint32_t detect_cpu_features() noexcept;

/// Asks Linux to save AMX's registers, 8 KiB, for this process from now on: it does so for those
/// that ask. It refuses where a thread has an alternate signal stack too small for them, and where
/// that is granted it refuses such stacks afterwards (sigaltstack of 8 KiB: ENOMEM).
[[nodiscard]] bool ask_for_amx() noexcept;

/// Bytes of the second-level cache of a core that blocking may rely on, of what the system reports
/// (0 or negative: it is silent, then a modest 512 KiB). At least 64 KiB and at most 4 MiB: a
/// hypervisor's slip must not make blocks of nothing or of gigabytes, and of a larger one, which
/// several cores share, a core has hardly more. (Of the third level nothing is asked: processors
/// report the whole socket's, of which a virtual machine's few cores have what the neighbours
/// leave.)
[[nodiscard]] std::int64_t sane_l2_bytes(long reported) noexcept;

/// sane_l2_bytes of this system. Read once.
[[nodiscard]] std::int64_t l2_bytes() noexcept;

}  // namespace kvant::detail
