#pragma once

// The kernel table of an instruction set from its traits type, so that a translation unit says no
// more than which. What a table leaves null the registry takes from the set that it builds on.

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_float.hpp"
#include "cpu/micro/gemm_fp8.hpp"
#include "cpu/micro/gemm_groups.hpp"
#include "cpu/micro/gemm_nibbles.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "cpu/micro/simd_concept.hpp"
#include "cpu/micro/sum_codes.hpp"
#include "cpu/tables.hpp"

namespace kvant {
namespace {

using detail::empty_table;
using detail::give;

/// Integer products alone.
template <Simd S>
constexpr KernelTable make_integer_table(const char* name) noexcept {
  KernelTable table = empty_table(name);
  give(table, WeightFormat::int8_row, int8_kernels<S>());
  give(table, WeightFormat::int4_group, nibble_kernels<S, LinearNibbles<S>>());
  give(table, WeightFormat::nf4, nibble_kernels<S, BookNibbles<S, kOwnNf4>>());
  give(table, WeightFormat::fp4, nibble_kernels<S, BookNibbles<S, kOwnFp4>>());
  give(table, WeightFormat::int8_group, group_kernels<S>());
  return table;
}

/// Every operation that is written over S.
template <Simd S>
constexpr KernelTable make_table(const char* name) noexcept {
  KernelTable table = make_integer_table<S>(name);
  table.quantize_rows = &quantize_rows<S>;
  table.sum_codes = &sum_codes<S>;
  table.range = &range<S>;
  table.quantize = &quantize<S>;
  table.dequantize = &dequantize<S>;
  table.convert = &convert<S>;
  give(table, WeightFormat::float32, float_kernels<S, FloatProduct<S>>());
  give(table, WeightFormat::float16, float_kernels<S, HalfProduct<S>>());
  give(table, WeightFormat::bfloat16, float_kernels<S, WidenedProduct<S>>());
  give(table, WeightFormat::fp8_row, fp8_kernels<S>());
  give(table, WeightFormat::fp8_block, fp8_kernels<S>());
  return table;
}

}  // namespace
}  // namespace kvant
