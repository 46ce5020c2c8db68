#pragma once

// What the processor has and the operating system saves, and the sizes of the caches.

#include <cstddef>
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
};

/// The name of one feature, as /proc/cpuinfo and compilers spell it.
[[nodiscard]] const char* feature_name(CpuFeature feature) noexcept;

/// Features that instructions may use: CPUID reports them and XGETBV says that the operating system
/// saves their registers. Cheap; not cached here.
[[nodiscard]] std::uint32_t detect_cpu_features() noexcept;

struct CacheSizes {
  std::size_t l1_data;
  std::size_t l2;
};

/// Per core, in bytes, as the system reports them; modest guesses (32 KiB, 512 KiB) where it is
/// silent. Read once.
[[nodiscard]] CacheSizes cache_sizes() noexcept;

}  // namespace kvant::detail
