// Bf16Linear: packing bfloat16 weights, and the forward pass over the half-precision kernels.

#include <algorithm>
#include <new>
#include <string>

#include "kvant/kernel_table.hpp"
#include "kvant/linear.hpp"
#include "ops/int8_weights.hpp"
#include "ops/parallel_tiles.hpp"
#include "ops/row_blocks.hpp"
#include "ops/validate.hpp"

namespace kvant {

using namespace detail;

struct Bf16Linear::State {
  HalfKernels kernels;
  const char* packed_for;
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;
  AlignedArray<std::uint16_t> weights;
  AlignedArray<float> bias;
};

Bf16Linear Bf16Linear::pack(ConstAnyMatrix weights, ConstAnyMatrix bias) {
  return pack(default_context(), weights, bias);
}

Bf16Linear Bf16Linear::pack(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias) {
  constexpr const char* kWho = "Bf16Linear::pack";
  check_float(kWho, "weights", weights);
  check_bias(kWho, bias, weights.rows);
  try {
    const HalfKernels& kernels = context.kernels().half;
    const WeightLayout& layout = kernels.layout;
    State state{kernels,
                context.kernels().name,
                weights.rows,
                weights.cols,
                layout.padded_k(weights.cols),
                {},
                {}};
    const std::int64_t padded_n = layout.padded_n(state.n);
    state.weights = AlignedArray<std::uint16_t>(static_cast<std::size_t>(padded_n * state.k_padded),
                                                std::uint16_t{0});
    parallel(context, state.n, state.n * state.k, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        for (std::int64_t k = 0; k < state.k; ++k) {
          state.weights[static_cast<std::size_t>(layout.offset(n, k, state.k_padded))] =
              float_to_bfloat_bits(load_float(weights, n, k));
        }
      }
    });
    if (bias.rows != 0) {
      state.bias = AlignedArray<float>(static_cast<std::size_t>(padded_n), 0.0f);
      for (std::int64_t n = 0; n < state.n; ++n) {
        state.bias[static_cast<std::size_t>(n)] = load_float(bias, 0, n);
      }
    }
    return Bf16Linear(std::make_shared<const State>(std::move(state)));
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, std::string(kWho) + ": out of memory");
  }
}

void Bf16Linear::forward(ConstAnyMatrix x, AnyMatrix y) const {
  forward(default_context(), x, y);
}

void Bf16Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  constexpr const char* kWho = "Bf16Linear::forward";
  check_float(kWho, "x", x);
  check_float(kWho, "y", y);
  check_writable(kWho, "y", y);
  if (x.cols != in_features()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": x has " + std::to_string(x.cols) +
                                        " columns, the layer takes " +
                                        std::to_string(in_features()) + " inputs");
  }
  if (y.rows != x.rows || y.cols != out_features()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": y is " + shape_text(y.rows, y.cols) +
                                        "; " + shape_text(x.rows, out_features()) + " is wanted");
  }
  if (overlap(x, y)) fail(ErrorCode::invalid_argument, std::string(kWho) + ": y overlaps x");
  if (y.rows == 0 || y.cols == 0) return;
  const State& s = *state_;
  const KernelTable& kernels = context.kernels();
  if (kernels.half.gemm != s.kernels.gemm) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are packed for \"" +
                                     s.packed_for + "\", the context runs \"" + kernels.name +
                                     "\"; build the layer with the same context");
  }

  const bool wide = s.kernels.activations == HalfFormat::f32;
  const std::int64_t size = wide ? 4 : 2;
  const RowBlockTasks tasks(context, x.rows, s.k_padded * size);
  const std::int64_t half_bytes = (s.k + 31) / 32 * 64;
  const std::int64_t task_bytes = half_bytes + tasks.scratch_bytes();
  std::byte* a = context.workspace(
      static_cast<std::size_t>(tasks.activation_bytes() + tasks.count * task_bytes));
  const std::int64_t element = describe(x.dtype).bits / 8;
  parallel(context, tasks.count, x.rows * s.k, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      std::byte* half = a + tasks.activation_bytes() + task * task_bytes;
      tasks.fill(task, half + half_bytes, a,
                 [&](std::int64_t first, std::int32_t rows, std::byte* plain) {
                   for (std::int32_t r = 0; r < rows; ++r) {
                     const auto* from =
                         static_cast<const std::byte*>(x.data) + (first + r) * x.stride * element;
                     std::byte* row = plain + r * tasks.scratch_stride();
                     kernels.convert({from, x.dtype, wide ? half : row, DType::bfloat16, s.k});
                     if (wide) kernels.convert({half, DType::bfloat16, row, DType::float32, s.k});
                     std::fill(row + s.k * size, row + tasks.row_bytes, std::byte{0});
                   }
                 });
    }
  });

  const std::int64_t nr = s.kernels.layout.nr;
  const std::int64_t panels = (s.n + nr - 1) / nr;
  const HalfGemmArgs args{.a = a,
                          .b = s.weights.data(),
                          .m = x.rows,
                          .n = s.n,
                          .k_padded = s.k_padded,
                          .block_begin = 0,
                          .block_end = 0,
                          .panel_begin = 0,
                          .panel_end = 0,
                          .y = y.data,
                          .y_dtype = y.dtype,
                          .y_stride = y.stride,
                          .bias = s.bias.data()};
  parallel_tiles(context, args, panels, tasks.row_bytes, x.rows * s.n * (s.k / 8 + 1),
                 [&](const HalfGemmArgs& part) { s.kernels.gemm(part); });
}

std::int64_t Bf16Linear::in_features() const noexcept {
  return state_ != nullptr ? state_->k : 0;
}
std::int64_t Bf16Linear::out_features() const noexcept {
  return state_ != nullptr ? state_->n : 0;
}

std::size_t Bf16Linear::memory_footprint() const noexcept {
  return state_ != nullptr ? state_->weights.bytes() + state_->bias.bytes() : 0;
}

}  // namespace kvant
