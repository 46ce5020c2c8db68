#include <cstdint>

namespace kvant::models {
namespace {
constexpr int kPartLanes = 16;
constexpr int kRows = 4;
constexpr int kChunks = 4;
}  // namespace
}  // namespace kvant::models

#include "models/vector/body.hpp"

namespace kvant::models {

const VectorKernels vector_kernels_avx512 = {scores, softmax, mix, gate, panel, dot};

}  // namespace kvant::models
