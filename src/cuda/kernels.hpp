#pragma once

// The kernel set, over whatever device.hpp launches on: nvcc's, or the emulated device of the
// tests. Weights and activations are plain rows of K padded to 128 bytes, which is what cp.async,
// ldmatrix, the tensor copy engine and wgmma want: nothing is packed anew.

#include "cuda/elementwise.hpp"
#include "cuda/gather_columns.hpp"
#include "cuda/gemm.hpp"
#include "cuda/list_outliers.hpp"
#include "cuda/quantize_rows.hpp"
#include "cuda/range.hpp"

namespace kvant {
namespace {

/// @tparam kMajor  choose kernels as for a device of this compute capability; 0: as it is
template <int kMajor>
constexpr KernelTable cuda_kernels(const char* name) {
  return {
      .name = name,
      .layout = {.nr = 1, .kr = 1, .k_pad = 128},
      .activation_format = CodeFormat::s8,
      .mr = 1,
      .pair_limit = 0,
      .quantize_rows = [](const QuantizeRowsArgs& a) noexcept { launch_quantize_rows(a, nullptr); },
      .range = [](const RangeArgs& a) noexcept { launch_range(a, nullptr); },
      .quantize = [](const QuantizeArgs& a) noexcept { launch_quantize(a, nullptr); },
      .dequantize = [](const DequantizeArgs& a) noexcept { launch_dequantize(a, nullptr); },
      .convert = [](const ConvertArgs& a) noexcept { launch_convert(a, nullptr); },
      .gemm =
          [](const GemmArgs& a) noexcept {
            device::Properties device = device::properties();
            if (kMajor != 0) device.major = kMajor;
            launch_gemm(a, {}, device, nullptr);
          },
      .gather_columns = [](const GemmArgs& a,
                           float* w) noexcept { launch_gather_columns(a, w, nullptr); },
      .half = {.layout = {.nr = 1, .kr = 1, .k_pad = 64},
               .activations = HalfFormat::bf16,
               .gemm = [](const HalfGemmArgs& a) noexcept { launch_half_gemm(a, nullptr); }}};
}

}  // namespace
}  // namespace kvant
