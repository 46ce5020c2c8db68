#include "models/vector/kernels.hpp"

namespace kvant::models {

const VectorKernels& vector_kernels(std::string_view isa) noexcept {
#if KVANT_MODELS_VECTOR_X86
  if (isa.starts_with("avx512")) return vector_kernels_avx512;
  if (isa == "avx2") return vector_kernels_avx2;
#endif
  static_cast<void>(isa);
  return vector_kernels_plain;
}

}  // namespace kvant::models
