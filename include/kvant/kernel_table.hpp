#pragma once

/// @file
/// THE interface between the middle of the library (src/ops: validation, threads, workspace) and
/// its back (src/cpu, one translation unit per instruction set): plain structs of arguments
/// (kernels/rows.hpp, kernels/gemm.hpp) and one struct of noexcept function pointers. Nothing here
/// allocates, throws, starts a thread or knows an instruction set; nothing behind it validates.
///
/// Integers, and the floats of integer formats, are bit-identical on every kernel set
/// (src/numerics.md). So a set's translation unit fills only what it does better than the set it
/// builds on; the registry takes the rest from that one (src/dispatch/isa_list.inc).

#include <cstddef>

#include "kvant/config.hpp"
#include "kvant/kernels/gemm.hpp"
#include "kvant/kernels/memory.hpp"
#include "kvant/kernels/rows.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// The kernels of one instruction set.
struct KernelTable {
  const char* name;
  const Memory* memory;  ///< where its data lives; null: on the host

  void (*quantize_rows)(const QuantizeRowsArgs&) noexcept;
  void (*list_outliers)(const ListOutliersArgs&) noexcept;
  void (*sum_codes)(const SumCodesArgs&) noexcept;
  void (*gather_features)(const GatherFeaturesArgs&) noexcept;
  void (*range)(const RangeArgs&) noexcept;
  void (*quantize)(const QuantizeArgs&) noexcept;
  void (*dequantize)(const DequantizeArgs&) noexcept;
  void (*convert)(const ConvertArgs&) noexcept;
  /// By weight format; what is multiplied without kernels of its own has gemm == nullptr.
  GemmKernels gemm[kWeightFormats];

  [[nodiscard]] constexpr const GemmKernels& gemm_for(WeightFormat format) const noexcept {
    return gemm[static_cast<std::size_t>(describe(format).kernels)];
  }
};

}  // namespace kvant
