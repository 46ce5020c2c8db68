#include <cstdint>

namespace kvant::models {
namespace {
constexpr int kPartLanes = 4;
constexpr int kRows = 1;
constexpr int kChunks = 2;
}  // namespace
}  // namespace kvant::models

#include "models/vector/body.hpp"

namespace kvant::models {

const VectorKernels vector_kernels_plain = {scores, softmax, mix, gate, panel, dot};

}  // namespace kvant::models
