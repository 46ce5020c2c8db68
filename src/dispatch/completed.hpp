#pragma once

// A kernel table is filled with what it lacks from the one that it builds on.

#include <cstddef>

#include "kvant/kernel_table.hpp"

namespace kvant::detail {

constexpr KernelTable completed(KernelTable table, const KernelTable& base) noexcept {
  const auto take = [](auto& mine, auto theirs) {
    if (mine == nullptr) mine = theirs;
  };
  take(table.quantize_rows, base.quantize_rows);
  take(table.list_outliers, base.list_outliers);
  take(table.sum_codes, base.sum_codes);
  take(table.gather_features, base.gather_features);
  take(table.range, base.range);
  take(table.quantize, base.quantize);
  take(table.dequantize, base.dequantize);
  take(table.convert, base.convert);
  for (std::size_t i = 0; i < kWeightFormats; ++i) {
    // (A product of the host's is none for a device's memory.)
    const bool reaches = table.memory == base.memory;
    const bool lacks = table.gemm[i].gemm == nullptr && table.gemm[i].widen_panel == nullptr;
    if (lacks && reaches) table.gemm[i] = base.gemm[i];
  }
  return table;
}

}  // namespace kvant::detail
