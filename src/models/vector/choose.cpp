#include <algorithm>

#include "kvant/isa.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

/// Whether this machine runs a set: a table of a caller's own may have any name.
[[maybe_unused]] bool runs(std::string_view name) {
  const std::vector<IsaInfo> sets = instruction_sets();
  return std::any_of(sets.begin(), sets.end(),
                     [&](const IsaInfo& set) { return set.name == name && set.available; });
}

}  // namespace

const VectorKernels& vector_kernels(std::string_view isa) {
#if KVANT_MODELS_VECTOR_X86
  static const bool avx512 = runs("avx512");
  static const bool avx2 = runs("avx2");
  if (avx512 && (isa.starts_with("avx512") || isa == "amx")) return vector_kernels_avx512;
  if (avx2 && isa.starts_with("avx")) return vector_kernels_avx2;
#endif
  static_cast<void>(isa);
  return vector_kernels_plain;
}

}  // namespace kvant::models
