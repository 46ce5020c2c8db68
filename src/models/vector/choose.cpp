#include <string_view>

#include "kvant/error.hpp"
#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

/// Whether this machine runs a set: a table of a caller's own may have any name. (By name: to list
/// all sets would ask for AMX's registers.)
[[maybe_unused]] bool runs(std::string_view name) {
  try {
    return kernels_for(name).name == name;
  } catch (const Error&) {
    return false;
  }
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
