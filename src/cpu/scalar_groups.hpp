#pragma once

// The scalar kernels of weights in GroupPanels, a part of scalar.cpp: what every other set must
// equal bit for bit. Exact int32 sums inside a group, then one fma with its scale, and one with its
// offset and the sum of its activations where there are offsets; groups ascending.

#include <algorithm>
#include <cmath>

#include "cpu/found_weights.hpp"
#include "cpu/scalar_epilogue.hpp"
#include "kvant/codebook.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::detail {
namespace {
namespace groups {

constexpr CodebookTable kOwnE2m1 = kE2m1;  // this unit's own: it exports nothing but its table

/// One output: a panel of the scalar layout.
struct Output {
  const GroupPanels& w;
  const unsigned char* panel;

  Output(const GemmArgs& g, std::int64_t n) noexcept
      : w(g.groups), panel(static_cast<const unsigned char*>(g.b) + n * g.groups.panel_bytes()) {}

  /// What is multiplied: code - zero.
  [[nodiscard]] std::int32_t integer(std::int64_t k) const noexcept {
    const int low = panel[w.low_at(0, k)];
    if (w.bits == 8) return static_cast<std::int8_t>(low);
    int code = low >> w.low_shift(k) & 15;
    if (w.e2m1) code = kOwnE2m1.integer[code];
    if (w.bits > 4) {
      const int high = panel[w.high_at(0, k)] >> w.high_shift(k);
      code |= (high & (w.bits == 5 ? 1 : 3)) << 4;
    }
    return code - w.zero;
  }
  [[nodiscard]] float scale(std::int64_t k) const noexcept {
    const unsigned char* const unit = panel + w.unit_at(k);
    float scale = load_element(unit, w.scale, 0);
    if (w.factors == 1) {
      scale *=
          static_cast<float>(static_cast<std::int8_t>(unit[w.factors_at(w.group_of_unit(k), 0)]));
    } else if (w.factors == 2) {
      scale *= static_cast<float>(unit[w.factors_at(w.group_of_unit(k), 0)]);
    }
    return scale * w.factor;
  }
  [[nodiscard]] float offset(std::int64_t k) const noexcept {
    const unsigned char* const unit = panel + w.unit_at(k);
    const float offset = load_element(unit + w.offsets_at(), DType::float16, 0);
    return w.factors != 2 ? offset
                          : offset * static_cast<float>(unit[w.factors_at(w.group_of_unit(k), 1)]);
  }
  [[nodiscard]] float value(std::int64_t k) const noexcept {
    const float product = static_cast<float>(integer(k)) * scale(k);
    return w.offsets ? product + offset(k) : product;
  }

  [[nodiscard]] float dot(const std::int8_t* a) const noexcept {
    float sum = 0.0f;
    for (std::int64_t unit = 0; unit < w.k_padded; unit += w.unit) {
      const std::int64_t unit_end = std::min(w.k_padded, unit + w.unit);
      for (std::int64_t first = unit; first < unit_end; first += w.group) {
        const std::int64_t last = std::min(unit_end, first + w.group);
        std::int32_t group = 0;
        std::int32_t activations = 0;
        for (std::int64_t k = first; k < last; ++k) {
          group += integer(k) * std::int32_t{a[k]};
          activations += a[k];
        }
        sum = std::fma(static_cast<float>(group), scale(first), sum);
        if (w.offsets) sum = std::fma(static_cast<float>(activations), offset(first), sum);
      }
    }
    return sum;
  }
};

void gather_output(const GemmArgs& g, std::int64_t n, float* w) noexcept {
  const Output output(g, n);
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j) {
    w[j] = output.value(g.columns.columns[j]);
  }
}

void gather_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    gather_output(g, n, w + n * g.epilogue.outliers.found.count);
  }
}

void widen_panel(const GemmArgs& g, float* w) noexcept {
  const Output output(g, g.range.panel_begin);
  for (std::int64_t k = 0; k < g.groups.k_padded; ++k) w[k] = output.value(k);
}

void gemm(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    found.turn_to(n, [&](float* weights) { gather_output(g, n, weights); });
    const Output output(g, n);
    for (std::int64_t m = g.range.block_begin; m < g.range.block_end; ++m) {  // a block is a row
      const float sum = output.dot(static_cast<const std::int8_t*>(g.a) + m * g.range.k_padded);
      finish_value(g.epilogue, m, n, sum * g.epilogue.row_scale[m]);
    }
  }
}

constexpr GemmKernels kernels() noexcept {
  GemmKernels kernels;
  kernels.activations = ActivationFormat::s8;
  kernels.layout = {.nr = 1, .kr = 4, .k_pad = 64, .align = 4};
  kernels.gemm = &gemm;
  kernels.gather_columns = &gather_columns;
  kernels.widen_panel = &widen_panel;
  return kernels;
}

}  // namespace groups
}  // namespace
}  // namespace kvant::detail
