#include "kvant/int8_matmul.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "kvant/error.hpp"
#include "ops/linear/activations.hpp"
#include "ops/linear/parallel_tiles.hpp"
#include "ops/linear/row_blocks.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

constexpr const char* kWho = "int8_matmul";

void check_operands(const Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                    const ConstAnyMatrix& y) {
  check_host(kWho, context);
  check_readable(kWho, "a", a);
  check_writable(kWho, "y", y);
  if (a.cols() != w.k()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": a has " + std::to_string(a.cols()) +
                                        " columns, the weights have " + std::to_string(w.k()));
  }
  check_result_shape(kWho, y, a.rows(), w.n());
  if (overlap(a, y)) fail(ErrorCode::invalid_argument, std::string(kWho) + ": y overlaps a");
  if (w.n() > 0 && w.format() != WeightFormat::int8_row) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are " +
                                     std::string(to_string(w.format())) +
                                     "; int8 codes are wanted (a Linear multiplies every format)");
  }
  if (!w.fits(context.kernels())) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are packed for \"" +
                                     std::string(w.packed_for()) + "\", the context runs \"" +
                                     context.kernels().name +
                                     "\"; pack them with the same context");
  }
}

/// Activations into the workspace, block by block, then the product with this epilogue.
void multiply(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
              const Epilogue& epilogue) {
  const GemmKernels& kernels = context.kernels().gemm_for(WeightFormat::int8_row);
  const RowBlockTasks tasks(context, kernels, a.rows(), w.k_padded());
  std::byte* codes = nullptr;
  std::byte* scratch = nullptr;
  std::int32_t* sums = nullptr;
  carve(context.workspace(), 0, [&](Arena& arena) {
    codes = arena.take<std::byte>(tasks.activation_bytes());
    scratch = arena.take<std::byte>(tasks.count * tasks.scratch_bytes());
    sums = arena.take<std::int32_t>(words_of_sums(kernels, a.rows(), w.k_padded()));
  });
  parallel(
      context, tasks.count, a.rows() * a.cols() / 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
          tasks.fill(
              task, scratch + task * tasks.scratch_bytes(), codes,
              [&](std::int64_t first, std::int32_t rows, std::byte* plain, std::ptrdiff_t stride) {
                for (std::int32_t r = 0; r < rows; ++r) {
                  std::byte* const row = plain + r * stride;
                  store_codes(kernels.activations, a.row_data(first + r), a.cols(), row);
                  store_zeros(kernels.activations, w.k_padded() - a.cols(), row + a.cols());
                }
              });
        }
      });
  sum_codes(context, kernels, tasks.blocks, codes, w.k_padded(), sums);
  GemmArgs args{};
  args.a = codes;
  args.b = w.data();
  args.b_offset = w.offsets();
  args.a_sums = sums;
  args.range = {.m = a.rows(), .n = w.n(), .k_padded = w.k_padded()};
  args.epilogue = epilogue;
  parallel_tiles(context, args, kernels, w.panels(), a.rows() * w.n() * (w.k() / 16 + 1));
}

}  // namespace

PackedMatrix pack_codes(Context& context, MatrixView<const std::int8_t> codes) {
  return PackedWeights::from_codes(context, codes);
}

void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                 MatrixView<std::int32_t> y) {
  const ContextUse use(kWho, context);
  check_operands(context, a, w, y);
  if (y.empty()) return;
  Epilogue epilogue{};
  epilogue.y = y.data();
  epilogue.y_dtype = DType::int32;
  epilogue.y_stride = y.stride();
  multiply(context, a, w, epilogue);
}

void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                 std::span<const float> row_scale, std::span<const float> col_scale, AnyMatrix y,
                 ConstAnyMatrix bias) {
  const ContextUse use(kWho, context);
  check_float(kWho, "y", y);
  check_operands(context, a, w, y);
  if (static_cast<std::int64_t>(row_scale.size()) != a.rows() ||
      static_cast<std::int64_t>(col_scale.size()) != w.n()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + std::to_string(row_scale.size()) +
                                        " row scales and " + std::to_string(col_scale.size()) +
                                        " column scales for y " + shape_text(a.rows(), w.n()));
  }
  check_bias(kWho, bias, w.n());
  if (y.rows == 0 || y.cols == 0) return;
  const ScopedFloatEnvironment environment;
  // The kernels read scales and bias in whole panels.
  const auto padded = static_cast<std::size_t>(w.layout().padded_n(w.n()));
  auto* columns = reinterpret_cast<float*>(context.workspace(2 * padded * sizeof(float), 1));
  float* bias_floats = columns + padded;
  std::memset(columns, 0, 2 * padded * sizeof(float));
  std::copy(col_scale.begin(), col_scale.end(), columns);
  for (std::int64_t n = 0; n < bias.cols && bias.rows != 0; ++n) {
    bias_floats[n] = load_float(bias, 0, n);
  }
  Epilogue epilogue{};
  epilogue.y = y.data;
  epilogue.y_dtype = y.dtype;
  epilogue.y_stride = y.stride;
  epilogue.row_scale = row_scale.data();
  epilogue.col_scale = columns;
  epilogue.scale = 1.0f;
  epilogue.bias = bias.rows != 0 ? bias_floats : nullptr;
  multiply(context, a, w, epilogue);
}

}  // namespace kvant
