#pragma once

// The kernel set, over whatever device.hpp launches on: nvcc's, or the emulated device of the
// tests. Weights and activations are plain rows of K padded to 128 bytes, which is what cp.async,
// ldmatrix, the tensor copy engine and wgmma want: nothing is packed anew.

#include "cuda/elementwise.hpp"
#include "cuda/gather_columns.hpp"
#include "cuda/gather_features.hpp"
#include "cuda/gemm.hpp"
#include "cuda/list_outliers.hpp"
#include "cuda/quantize_rows.hpp"
#include "cuda/range.hpp"

namespace kvant {
namespace {

/// @tparam kMajor  choose kernels as for a device of this compute capability; 0: as it is
template <int kMajor>
inline device::Properties device_for_kernels() noexcept {
  device::Properties device = device::properties();
  if (kMajor != 0) device.major = kMajor;
  return device;
}

template <int kMajor>
constexpr KernelTable cuda_kernels(const char* name) {
  KernelTable t{};
  t.name = name;
  t.quantize_rows = [](const QuantizeRowsArgs& a) noexcept { launch_quantize_rows(a, nullptr); };
  t.list_outliers = [](const ListOutliersArgs& a) noexcept { launch_list_outliers(a, nullptr); };
  t.gather_features = [](const GatherFeaturesArgs& a) noexcept {
    launch_gather_features(a, nullptr, nullptr);
  };
  t.range = [](const RangeArgs& a) noexcept { launch_range(a, nullptr); };
  t.quantize = [](const QuantizeArgs& a) noexcept { launch_quantize(a, nullptr); };
  t.dequantize = [](const DequantizeArgs& a) noexcept { launch_dequantize(a, nullptr); };
  t.convert = [](const ConvertArgs& a) noexcept { launch_convert(a, nullptr); };
  t.gemm[static_cast<int>(WeightFormat::int8_row)] = {
      .activations = ActivationFormat::s8,
      .layout = {.nr = 1, .kr = 1, .k_pad = 128},
      .mr = 1,
      .group = 4,
      .pair_limit = 0,
      .gemm =
          [](const GemmArgs& a) noexcept {
            launch_gemm(a, {}, device_for_kernels<kMajor>(), nullptr);
          },
      .gather_columns = [](const GemmArgs& a,
                           float* w) noexcept { launch_gather_columns(a, w, nullptr); }};
  t.gemm[static_cast<int>(WeightFormat::bfloat16)] = {
      .activations = ActivationFormat::bf16,
      .layout = {.nr = 1, .kr = 1, .k_pad = 64},
      .mr = 1,
      .group = 4,
      .pair_limit = 0,
      .gemm =
          [](const GemmArgs& a) noexcept {
            launch_gemm_bfloat16(a, device_for_kernels<kMajor>(), nullptr);
          },
      .gather_columns = nullptr};
  return t;
}

}  // namespace
}  // namespace kvant
