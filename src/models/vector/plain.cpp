#include <cstdint>

namespace kvant::models {
namespace {
constexpr int kPartLanes = 4;
constexpr int kRows = 1;
constexpr int kChunks = 2;

using Floats = float __attribute__((vector_size(16)));
using Bits = std::uint32_t __attribute__((vector_size(16)));
using Halves = std::uint16_t __attribute__((vector_size(8)));
using Codes = std::int8_t __attribute__((vector_size(4)));
inline Floats widen(const std::int8_t* p) noexcept {
  Codes codes;
  __builtin_memcpy(&codes, p, sizeof(codes));
  return __builtin_convertvector(codes, Floats);
}
inline Floats widen(const std::uint16_t* p) noexcept {
  Halves bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return reinterpret_cast<Floats>(__builtin_convertvector(bits, Bits) << 16);
}
}  // namespace
}  // namespace kvant::models

#include "models/vector/body.hpp"

namespace kvant::models {

const VectorKernels vector_kernels_plain = {scores, softmax, mix, gate, panel, dot};

}  // namespace kvant::models
