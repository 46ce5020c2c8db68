#pragma once

// Writing what GPTQ's and AWQ's forms share: int4 rounded to nearest, a scale and a zero point for
// each group of an output's inputs.

#include <cstdint>
#include <vector>

#include "io/layers/packed_groups.hpp"

namespace kvant::io {

/// Inputs that share a scale.
[[nodiscard]] std::int64_t group_size_of(const NewLayer& layer) noexcept;

/// @param packing gptq or awq_gemm
/// @throws Error unsupported, invalid_argument: a shape or group that the form cannot have
void check_new_groups(const NewLayer& layer, GroupPacking packing);

/// NAME.qweight, .qzeros and .scales.
[[nodiscard]] std::vector<TensorSpec> group_specs(const NewLayer& layer, GroupPacking packing);

/// As StoredFormat::write_rows; `first` is a multiple of 8.
void write_group_rows(const KernelTable& kernels, const NewLayer& layer, GroupPacking packing,
                      std::int64_t first, const ConstAnyMatrix& rows, const TensorSink& out);

/// As StoredFormat::round_trip.
void round_trip_groups(const KernelTable& kernels, const NewLayer& layer,
                       MatrixView<const float> rows, MatrixView<float> out);

}  // namespace kvant::io
