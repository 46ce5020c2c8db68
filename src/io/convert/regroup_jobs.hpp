#pragma once

// The tensors of a layer in groups on their way from GPTQ's or AWQ's form to the other.

#include <cstdint>
#include <memory>
#include <string>

#include "io/convert/tensor_jobs.hpp"
#include "io/layers/packed_groups.hpp"

namespace kvant::io {

/// How a layer will lie.
struct RegroupedLayer {
  std::string name;
  PackedGroups from;
  GroupPacking to = GroupPacking::gptq;  ///< gptq or awq_gemm
  std::uint16_t zeros_less = 0;          ///< what is taken off each zero point
  bool writes_index = false;             ///< NAME.g_idx too
};

/// NAME.qweight, 8 inputs of all outputs at a time. @param layer of 4 bits
std::unique_ptr<TensorJob> regroup_codes_job(SourceTensor codes, RegroupedLayer layer);
/// NAME.qzeros, and what else is small: the index of groups where there is none to copy, the scales
/// where they lie otherwise (from awq_gemv).
/// @param stored for the layer's reader, in memory while the job runs
std::unique_ptr<TensorJob> regroup_zeros_job(SourceTensor zeros, const Checkpoint& checkpoint,
                                             const StoredLayer& stored, RegroupedLayer layer);

}  // namespace kvant::io
