#pragma once

// The kernel table of an instruction set from its traits type, so that a translation unit says no
// more than which. What a table leaves null the registry takes from the set that it builds on.

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_float.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "cpu/micro/simd_concept.hpp"
#include "cpu/tables.hpp"

namespace kvant {
namespace {

using detail::empty_table;
using detail::give;

/// int8 products alone.
template <Simd S>
constexpr KernelTable make_int8_table(const char* name) noexcept {
  KernelTable table = empty_table(name);
  give(table, WeightFormat::int8_row, int8_kernels<S>());
  return table;
}

/// Every operation that is written over S.
template <Simd S>
constexpr KernelTable make_table(const char* name) noexcept {
  KernelTable table = make_int8_table<S>(name);
  table.quantize_rows = &quantize_rows<S>;
  table.range = &range<S>;
  table.quantize = &quantize<S>;
  table.dequantize = &dequantize<S>;
  table.convert = &convert<S>;
  give(table, WeightFormat::float32, float_kernels<S, FloatProduct<S>>());
  give(table, WeightFormat::bfloat16, float_kernels<S, WidenedProduct<S>>());
  return table;
}

}  // namespace
}  // namespace kvant
