#pragma once

// The kernel set, over whatever device.hpp launches on: nvcc's, or the emulated device of the
// tests. Weights and activations are plain rows of K padded to 128 bytes, which is what cp.async,
// ldmatrix, the tensor copy engine and wgmma want: nothing is packed anew. Codes of 4 bits lie in
// rows of their own kind (NibblePanels with kr = 32).

#include "cuda/elementwise.hpp"
#include "cuda/fill.hpp"
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

/// Of weights whose scales lie among their codes.
template <class Weights>
constexpr GemmKernels group_kernels(std::int32_t kr, std::int32_t align,
                                    void (*gemm)(const GemmArgs&) noexcept) {
  return {.activations = ActivationFormat::s8,
          .layout = {.nr = 1, .kr = kr, .k_pad = 128, .align = align},
          .gemm = gemm,
          .gather_columns = [](const GemmArgs& a,
                               float* w) noexcept { launch_gather_columns<Weights>(a, w); },
          .widen_panel = [](const GemmArgs& a, float* w) noexcept { launch_widen<Weights>(a, w); }};
}
template <int kMajor, class Codes>
constexpr GemmKernels nibble_kernels() {
  return group_kernels<NibbleWeights<Codes>>(32, 16, [](const GemmArgs& a) noexcept {
    launch_gemm_4_bits<Codes>(a, device_for_kernels<kMajor>());
  });
}

/// @param memory  of the device; null: kernels that are given the host's (emulated ones)
template <int kMajor>
constexpr KernelTable cuda_kernels(const char* name, const Memory* memory) {
  KernelTable t{};
  // By hand: in constant evaluation g++ 12 leaves elements of an array zero that nothing touches.
  for (GemmKernels& kernels : t.gemm) kernels = GemmKernels{};
  t.name = name;
  t.memory = memory;
  t.quantize_rows = [](const QuantizeRowsArgs& a) noexcept { launch_quantize_rows(a); };
  t.list_outliers = [](const ListOutliersArgs& a) noexcept { launch_list_outliers(a); };
  t.gather_features = [](const GatherFeaturesArgs& a) noexcept { launch_gather_features(a); };
  t.range = [](const RangeArgs& a) noexcept { launch_range(a); };
  t.quantize = [](const QuantizeArgs& a) noexcept { launch_quantize(a); };
  t.dequantize = [](const DequantizeArgs& a) noexcept { launch_dequantize(a); };
  t.convert = [](const ConvertArgs& a) noexcept { launch_convert(a); };
  const auto give = [&t](WeightFormat format, ActivationFormat activations, std::int32_t k_pad,
                         void (*gemm)(const GemmArgs&) noexcept) {
    t.gemm[static_cast<int>(format)] = {.activations = activations,
                                        .layout = {.nr = 1, .kr = 1, .k_pad = k_pad},
                                        .mr = 1,
                                        .group = 4,
                                        .gemm = gemm,
                                        .gather_columns = nullptr};
  };
  give(WeightFormat::int8_row, ActivationFormat::s8, 128,
       [](const GemmArgs& a) noexcept { launch_gemm_int8(a, device_for_kernels<kMajor>()); });
  GemmKernels& int8 = t.gemm[static_cast<int>(WeightFormat::int8_row)];
  int8.gather_columns = [](const GemmArgs& a, float* w) noexcept {
    launch_gather_columns<Int8Weights>(a, w);
  };
  int8.widen_panel = [](const GemmArgs& a, float* w) noexcept { launch_widen<Int8Weights>(a, w); };
  t.gemm[static_cast<int>(WeightFormat::int8_group)] =
      group_kernels<GroupWeights>(4, 4, [](const GemmArgs& a) noexcept { launch_gemm_grouped(a); });
  t.gemm[static_cast<int>(WeightFormat::int4_group)] = nibble_kernels<kMajor, LinearCodes>();
  t.gemm[static_cast<int>(WeightFormat::nf4)] = nibble_kernels<kMajor, BookCodes<kNf4>>();
  t.gemm[static_cast<int>(WeightFormat::fp4)] = nibble_kernels<kMajor, BookCodes<kFp4>>();
  give(WeightFormat::bfloat16, ActivationFormat::bf16, 64,
       [](const GemmArgs& a) noexcept { launch_gemm_bfloat16(a, device_for_kernels<kMajor>()); });
  give(WeightFormat::float32, ActivationFormat::f32, 128,
       [](const GemmArgs& a) noexcept { launch_gemm_float32(a); });
  return t;
}

}  // namespace
}  // namespace kvant
