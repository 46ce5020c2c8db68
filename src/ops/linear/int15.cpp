// Arithmetic::int15: each activation as two int8 codes, which the int8 kernels multiply as two
// rows.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

#include "kvant/context.hpp"
#include "kvant/core/int15.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/linear/parallel_tiles.hpp"
#include "ops/linear/row_blocks.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

/// To the nearest integer, ties to even, |value| < 2^22: what round_half_even() does, in a form
/// that compilers make vectors of. (Contraction is off in the library, the rounding mode its own.)
inline float round_small(float value) noexcept {
  constexpr float kShift = 0x1.8p23f;
  return (value + kShift) - kShift;
}

/// int15_code() of a row, one of the two codes.
void store_plane(const float* x, std::int64_t k, float inverse, bool low, ActivationFormat format,
                 std::byte* to) noexcept {
  const auto zero = static_cast<unsigned char>(format == ActivationFormat::u8_offset ? 128 : 0);
  auto* const codes = reinterpret_cast<unsigned char*>(to);
  const auto store = [=](auto code_of) {
    for (std::int64_t i = 0; i < k; ++i) {
      const float code = round_small(x[i] * inverse);
      const float high = round_small(code * (1.0f / 128.0f));
      const auto integer = static_cast<std::int32_t>(code_of(code, high));
      codes[i] = static_cast<unsigned char>(static_cast<unsigned char>(integer) ^ zero);
    }
  };
  if (low) {
    store([](float code, float high) { return code - high * 128.0f; });
  } else {
    store([](float, float high) { return high; });
  }
}

/// Each row's absmax, or the largest for all; NaN for rows that are not finite.
void find_absmax(Context& context, const ActivationRules& rules, const ConstAnyMatrix& x,
                 float* absmax) {
  const auto tasks = std::min<std::int64_t>(x.rows, context.executor().concurrency());
  parallel(context, tasks, x.rows * x.cols, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = x.rows * begin / tasks;
    context.kernels().quantize_rows(scan_of(rows_of(x, first, x.rows * end / tasks - first),
                                            std::numeric_limits<float>::infinity(), absmax + first,
                                            nullptr));
  });
  if (rules.options.activation_scale != ActivationScale::per_tensor) return;
  float largest = 0;
  for (std::int64_t m = 0; m < x.rows; ++m) {
    if (absmax[m] > largest) largest = absmax[m];
  }
  for (std::int64_t m = 0; m < x.rows; ++m) {
    if (!std::isnan(absmax[m])) absmax[m] = largest;
  }
}

}  // namespace

void check_int15_memory(const char* who, const Memory* memory) {
  if (memory == nullptr) return;
  fail(
      ErrorCode::unsupported,
      std::string(who) + ": Arithmetic::int15 is the CPU's, not that of \"" + memory->space + "\"");
}

Activations quantize_int15(const char* who, Context& context, Workspace& memory,
                           const GemmKernels& kernels, const ActivationRules& rules,
                           const ConstAnyMatrix& x) {
  check_int15_memory(who, context.memory());
  const std::int64_t k_padded = kernels.layout.padded_k(x.cols);
  const RowBlockTasks tasks(context, kernels, x.rows * 2, k_padded);
  const std::int64_t float_bytes = align_up(x.cols * 4);
  std::byte* codes = nullptr;
  std::byte* scratch = nullptr;
  std::byte* floats = nullptr;
  float* absmax = nullptr;
  float* row_scale = nullptr;
  std::int32_t* sums = nullptr;
  carve(memory, 0, [&](Arena& arena) {
    codes = arena.take<std::byte>(tasks.activation_bytes());
    scratch = arena.take<std::byte>(tasks.count * tasks.scratch_bytes());
    floats = arena.take<std::byte>(tasks.count * float_bytes);
    absmax = arena.take<float>(x.rows);
    row_scale = arena.take<float>(x.rows * 2);
    sums = arena.take<std::int32_t>(words_of_sums(kernels, x.rows * 2, k_padded));
  });
  Activations batch;
  batch.m = x.rows;
  batch.planes = 2;
  batch.k = x.cols;
  batch.k_padded = k_padded;
  batch.x_dtype = x.dtype;
  batch.kernels = kernels;
  batch.data = codes;
  batch.absmax = absmax;
  batch.row_scale = row_scale;
  batch.sums = sums;
  batch.x = rows_of(x, 0, x.rows);
  if (x.rows == 0) return batch;
  find_absmax(context, rules, x, absmax);
  if (rules.options.check_finite) check_finite(who, batch, 0);
  parallel(context, tasks.count, x.rows * x.cols * 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      auto* const row = reinterpret_cast<float*>(floats + task * float_bytes);
      std::int64_t converted = -1;  // the row that lies there
      const auto write_rows = [&](std::int64_t first, std::int64_t rows, std::byte* plain,
                                  std::ptrdiff_t stride) {
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t m = (first + r) / 2;
          const bool low = (first + r) % 2 != 0;
          const Int15Scale scale = int15_scale(absmax[m]);
          row_scale[first + r] = low ? scale.low : scale.high;
          std::byte* const to = plain + r * stride;
          if (!(scale.inverse > 0.0f)) {
            store_zeros(kernels.activations, k_padded, to);
            continue;
          }
          if (converted != m) {
            context.kernels().convert(
                {rows_of(x, m, 1).data, x.dtype, row, DType::float32, x.cols});
            converted = m;
          }
          store_plane(row, x.cols, scale.inverse, low, kernels.activations, to);
          store_zeros(kernels.activations, k_padded - x.cols, to + x.cols);
        }
      };
      tasks.fill(task, scratch + task * tasks.scratch_bytes(), codes, write_rows);
    }
  });
  sum_codes(context, kernels, tasks.blocks, codes, k_padded, sums);
  return batch;
}

namespace {

/// y's rows from the products of their two codes, which lie one after the other.
void add_planes(Context& context, float* products, std::ptrdiff_t stride, const float* bias,
                const AnyMatrix& y, std::int64_t first, std::int64_t rows) {
  constexpr std::int64_t kPiece = 4096;  // outputs; a single row is shared out too
  const std::int64_t pieces = (y.cols + kPiece - 1) / kPiece;
  const std::int64_t size = describe(y.dtype).bits / 8;
  parallel(context, rows * pieces, rows * y.cols * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t m = i / pieces;
      const std::int64_t n = i % pieces * kPiece;
      const std::int64_t count = std::min(kPiece, y.cols - n);
      float* const high = products + 2 * m * stride + n;
      const float* const low = high + stride;
      if (bias != nullptr) {
        for (std::int64_t j = 0; j < count; ++j) high[j] = (high[j] + low[j]) + bias[n + j];
      } else {
        for (std::int64_t j = 0; j < count; ++j) high[j] += low[j];
      }
      auto* const to = static_cast<std::byte*>(y.data) + ((first + m) * y.stride + n) * size;
      context.kernels().convert({high, DType::float32, to, y.dtype, count});
    }
  });
}

}  // namespace

void multiply_int15(Context& context, const Activations& a, const LayerWeights& weights,
                    const AnyMatrix& y) {
  constexpr std::int64_t kMostProducts = std::int64_t{1} << 23;  // 32 MiB at a time
  const PackedWeights& w = weights.packed;
  const GemmKernels& kernels = context.kernels().gemm_for(w.format());
  const RowBlocks blocks = a.blocks();
  const std::int64_t stride = align_up(w.n() * 4) / 4;
  const std::int64_t most_rows = std::min(
      blocks.m, std::max<std::int64_t>(kMostProducts / stride, 2 * std::int64_t{blocks.mr}));
  // A row in front is the high code's product of a row whose low code is in the next run.
  float* const carried = reinterpret_cast<float*>(
      context.workspace(static_cast<std::size_t>((most_rows + 1) * stride) * sizeof(float), 2));
  GemmArgs args = product_of(a, w, y, {});
  args.epilogue.row_scale = a.row_scale;
  args.epilogue.col_scale = w.scales();
  args.epilogue.y_dtype = DType::float32;
  args.epilogue.y_stride = stride;
  std::int64_t begin = 0;
  while (begin < blocks.count()) {
    std::int64_t end = begin + 1;
    while (end < blocks.count() && blocks.first(end + 1) - blocks.first(begin) <= most_rows) ++end;
    const std::int64_t first = blocks.first(begin);
    const std::int64_t last = blocks.first(end);
    float* const products = carried + (first % 2 == 0 ? stride : 0);
    // Kernels count rows from the first of the batch.
    args.epilogue.y =
        reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(carried + stride) -
                                static_cast<std::uintptr_t>(first * stride) * sizeof(float));
    args.range.block_begin = begin;
    args.range.block_end = end;
    parallel_tiles(context, args, kernels, w.panels(), (last - first) * w.n() * (w.k() / 16 + 1));
    add_planes(context, products, stride, weights.bias_at, y, first / 2, last / 2 - first / 2);
    if (last % 2 != 0) {
      std::memcpy(carried, carried + (last - first) * stride,
                  static_cast<std::size_t>(w.n()) * sizeof(float));
    }
    begin = end;
  }
}

}  // namespace kvant::detail
