#pragma once

// The scalar kernels of weights of 4 bits, a part of scalar.cpp: what every other set must equal
// bit for bit. Exact int32 sums inside a group, then one fma a group with its scale, groups
// ascending.

#include <algorithm>
#include <cmath>

#include "cpu/found_weights.hpp"
#include "cpu/scalar_epilogue.hpp"
#include "kvant/codebook.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::detail {
namespace {
namespace nibbles {

// Copies of this unit's own: it exports nothing but its table.
constexpr CodebookTable kOwnNf4 = kNf4;
constexpr CodebookTable kOwnFp4 = kFp4;

/// What codes are multiplied as, and what they stand for.
struct LinearCodes {
  static constexpr DType kScale = DType::float16;
  static constexpr std::int32_t kZero = 8;
  static std::int32_t integer(int code) noexcept { return code; }
  static float value(int code, std::int32_t zero) noexcept {
    return static_cast<float>(code - zero);
  }
  static float product_scale(float scale) noexcept { return scale; }
};
template <const CodebookTable& kTable>
struct BookCodes {
  static constexpr DType kScale = DType::float32;
  static constexpr std::int32_t kZero = kTable.zero;
  static std::int32_t integer(int code) noexcept {
    return kTable.integer[static_cast<std::size_t>(code)];
  }
  static float value(int code, std::int32_t /*zero*/) noexcept {
    return kTable.value[static_cast<std::size_t>(code)];
  }
  static float product_scale(float scale) noexcept { return scale * kTable.inverse_unit; }
};

/// One output: a panel of the scalar layout.
template <class Codes>
struct Output {
  const NibblePanels& w;
  const unsigned char* panel;

  [[nodiscard]] int code(std::int64_t k) const noexcept {
    return panel[w.code_at(0, k)] >> w.shift_of(k) & 15;
  }
  [[nodiscard]] float scale(std::int64_t k) const noexcept {
    return load_element(panel + w.group_at(k), Codes::kScale, 0);
  }
  [[nodiscard]] std::int32_t zero(std::int64_t k) const noexcept {
    return w.zero_points ? panel[w.group_at(k) + w.zeros_offset()] : Codes::kZero;
  }
  [[nodiscard]] float value(std::int64_t k) const noexcept {
    return Codes::value(code(k), zero(k)) * scale(k);
  }

  [[nodiscard]] float dot(const std::int8_t* a) const noexcept {
    float sum = 0.0f;
    for (std::int64_t first = 0; first < w.k_padded; first += w.group) {
      const std::int64_t last = std::min(w.k_padded, first + w.group);
      const std::int32_t offset = zero(first);
      std::int32_t group = 0;
      for (std::int64_t k = first; k < last; ++k) {
        group += (Codes::integer(code(k)) - offset) * std::int32_t{a[k]};
      }
      sum = std::fma(static_cast<float>(group), Codes::product_scale(scale(first)), sum);
    }
    return sum;
  }
};

template <class Codes>
Output<Codes> output_of(const GemmArgs& g, std::int64_t n) noexcept {
  return {g.nibbles, static_cast<const unsigned char*>(g.b) + n * g.nibbles.panel_bytes()};
}

template <class Codes>
void gather_output(const GemmArgs& g, std::int64_t n, float* w) noexcept {
  const Output<Codes> output = output_of<Codes>(g, n);
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j) {
    w[j] = output.value(g.columns.columns[j]);
  }
}

template <class Codes>
void gather_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    gather_output<Codes>(g, n, w + n * g.epilogue.outliers.found.count);
  }
}

template <class Codes>
void widen_panel(const GemmArgs& g, float* w) noexcept {
  const Output<Codes> output = output_of<Codes>(g, g.range.panel_begin);
  for (std::int64_t k = 0; k < g.nibbles.k_padded; ++k) w[k] = output.value(k);
}

template <class Codes>
void gemm(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    found.turn_to(n, [&](float* weights) { gather_output<Codes>(g, n, weights); });
    const Output<Codes> output = output_of<Codes>(g, n);
    for (std::int64_t m = g.range.block_begin; m < g.range.block_end; ++m) {  // a block is a row
      const float sum = output.dot(static_cast<const std::int8_t*>(g.a) + m * g.range.k_padded);
      finish_value(g.epilogue, m, n, sum * g.epilogue.row_scale[m]);
    }
  }
}

template <class Codes>
constexpr GemmKernels kernels() noexcept {
  GemmKernels kernels;
  kernels.activations = ActivationFormat::s8;
  kernels.layout = {.nr = 1, .kr = 8, .k_pad = 64, .align = 4};
  kernels.gemm = &gemm<Codes>;
  kernels.gather_columns = &gather_columns<Codes>;
  kernels.widen_panel = &widen_panel<Codes>;
  return kernels;
}

/// ActivationSums of any kind.
void sum_codes(const SumCodesArgs& a) noexcept {
  const std::int64_t length = codes_of_part(a.kind);
  const std::int64_t parts = a.k_padded / length;
  for (std::int64_t b = a.block_begin; b < a.block_end; ++b) {
    const std::int64_t first = a.blocks.first(b);
    const std::int32_t rows = a.blocks.rows(b);
    const auto* codes = static_cast<const std::int8_t*>(a.codes) + first * a.k_padded;
    std::int32_t* const sums = a.sums + first * sums_of_row(a.k_padded, a.kind);
    for (std::int32_t r = 0; r < rows; ++r) {
      std::int32_t running = 0;
      for (std::int64_t part = 0; part <= parts; ++part) {
        std::int32_t halves[2] = {0, 0};
        for (std::int64_t k = length * part; part < parts && k < length * (part + 1); ++k) {
          halves[k % 4 / 2] += codes[a.blocks.offset(rows, r, k)];
        }
        const auto low = static_cast<std::uint32_t>(halves[0]) & 0xFFFFu;
        const auto pair =
            static_cast<std::int32_t>(low | static_cast<std::uint32_t>(halves[1]) << 16);
        sums[part * rows + r] = a.kind == ActivationSums::pairs ? pair : running;
        running += halves[0] + halves[1];
      }
    }
  }
}

}  // namespace nibbles
}  // namespace
}  // namespace kvant::detail
