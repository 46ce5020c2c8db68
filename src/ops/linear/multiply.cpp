#include "ops/linear/multiply.hpp"

#include <algorithm>
#include <cassert>

#include "kvant/context.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/linear/parallel_tiles.hpp"
#include "ops/support/arena.hpp"
#include "ops/support/device_data.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {

bool is_widened(const KernelTable& table, const PackedWeights& weights,
                Arithmetic arithmetic) noexcept {
  const GemmKernels& own = table.gemm_for(weights.format());
  if (own.gemm == nullptr || own.most_rows != 0) return true;
  if (weights.n() > 0 && weights.state().is_plain_nibbles()) return true;
  return !describe(weights.format()).is_float() &&
         !multiplies_integers(weights.format(), arithmetic);
}

const GemmKernels& multiplying_kernels(const KernelTable& table, const PackedWeights& weights,
                                       Arithmetic arithmetic) noexcept {
  return table.gemm_for(is_widened(table, weights, arithmetic) ? WeightFormat::float32
                                                               : weights.format());
}

void LayerWeights::place() {
  bias_at = shifted_bias.empty() ? bias.data() : shifted_bias.data();
  kept_at = kept.data();
  const Memory* memory = packed.n() > 0 ? packed.state().memory : nullptr;
  const std::int64_t bias_bytes = align_up(static_cast<std::int64_t>(bias.bytes()));
  const auto bytes = static_cast<std::size_t>(bias_bytes) + kept.bytes();
  if (memory == nullptr || bytes == 0) return;
  on_device = allocate_on(*memory, bytes);
  std::byte* const at = on_device.get();
  copy_or_fail(*memory, at, bias_at, bias.bytes(), CopyKind::to_device, nullptr);
  copy_or_fail(*memory, at + bias_bytes, kept_at, kept.bytes(), CopyKind::to_device, nullptr);
  bias_at = bias.empty() ? nullptr : reinterpret_cast<const float*>(at);
  kept_at = kept.empty() ? nullptr : reinterpret_cast<const std::uint16_t*>(at + bias_bytes);
}

GemmArgs product_of(const Activations& a, const PackedWeights& w, const AnyMatrix& y,
                    Share blocks) noexcept {
  GemmArgs args{};
  args.a = a.data;
  args.b = w.data();
  args.b_offset = w.offsets();
  if (w.state().is_nibbles()) args.nibbles = w.state().nibbles();
  if (w.state().is_groups()) args.groups = w.state().groups();
  if (w.state().kernels.widen_panel != nullptr) {
    args.scales = {w.scales(), w.state().row_scales(), w.state().block};
  }
  args.a_sums = a.sums;
  args.range = {.m = a.m * a.planes,
                .n = w.n(),
                .k_padded = a.k_padded,
                .block_begin = blocks.begin,
                .block_end = blocks.end};
  args.epilogue.y = y.data;
  args.epilogue.y_dtype = y.dtype;
  args.epilogue.y_stride = y.stride;
  args.epilogue.scale = 1.0f;
  return args;
}

namespace {

/// Integer weights: LLM.int8(), with a scale for each output or for groups of its weights.
void multiply_int8(Context& context, const Activations& a, const ActivationRules& rules,
                   const LayerWeights& weights, const AnyMatrix& y, Share blocks) {
  const PackedWeights& w = weights.packed;
  const GemmKernels& kernels = context.kernels().gemm_for(w.format());
  const std::int64_t nr = w.layout().nr;
  const std::int64_t padded_n = w.layout().padded_n(w.n());
  const bool bitsandbytes = rules.is_bitsandbytes();
  // bitsandbytes rounds the bias to the activations' type first.
  const bool rounds_bias = bitsandbytes && !weights.bias.empty() &&
                           a.x_dtype != weights.bias_dtype && a.x_dtype != DType::float32;
  // More outlier columns than the GEMM has room for. (A device's kernels read their own weights.)
  const bool gathers_first = context.memory() == nullptr && a.outliers * nr > kGatheredWeights;
  float* bias = nullptr;
  std::uint16_t* half_bias = nullptr;
  float* outlier_w = nullptr;
  if (rounds_bias || gathers_first) {
    carve(context.workspace(), 2, [&](Arena& arena) {
      bias = arena.take<float>(rounds_bias ? padded_n : 0);
      half_bias = arena.take<std::uint16_t>(rounds_bias ? padded_n : 0);
      outlier_w = arena.take<float>(gathers_first ? padded_n * a.outliers : 0);
    });
  }
  if (rounds_bias) {
    const auto convert = context.kernels().convert;
    convert({weights.bias_at, DType::float32, half_bias, a.x_dtype, padded_n, context.queue()});
    convert({half_bias, a.x_dtype, bias, DType::float32, padded_n, context.queue()});
  }
  const float* scale = bitsandbytes ? w.absmax().data() : w.scales();
  const std::int64_t kept = rules.kept();
  GemmArgs args = product_of(a, w, y, blocks);
  if (!weights.offsets.empty()) args.b_offset = weights.offsets.data();
  args.columns = {.columns = a.columns,
                  .scale = scale,
                  .factor = bitsandbytes ? kInverse127 : 1.0f,
                  .rounded_to = bitsandbytes ? a.x_dtype : DType::float32};
  args.epilogue.row_scale = a.row_scale;
  args.epilogue.col_scale = scale;
  args.epilogue.scale = bitsandbytes ? kBitsandbytesScale : 1.0f;
  args.epilogue.bias = rounds_bias ? bias : weights.bias_at;
  args.epilogue.outliers = {
      .kept = {a.kept_x, a.m, weights.kept_at, kept * nr, weights.kept_dtype, kept},
      .found = {a.outlier_x, a.m, nullptr, 0, DType::float32, a.outliers, a.outliers_at}};
  args.x = a.x;
  args.threshold = rules.outlier_threshold();
  args.epilogue.bias_first = bitsandbytes;
  if (gathers_first) {
    parallel(context, w.panels(), w.panels() * nr * a.outliers,
             [&](std::int64_t begin, std::int64_t end) {
               GemmArgs part = args;
               part.range.panel_begin = begin;
               part.range.panel_end = end;
               kernels.gather_columns(part, outlier_w);
             });
    args.epilogue.outliers.found.w = outlier_w;
    args.epilogue.outliers.found.w_stride = a.outliers * nr;
  }
  parallel_tiles(context, args, kernels, w.panels(), a.m * w.n() * (w.k() / 16 + 1));
}

/// Weights whose real values the kernel set multiplies as they are.
void multiply_float(Context& context, const Activations& a, const LayerWeights& weights,
                    const AnyMatrix& y, Share blocks) {
  const PackedWeights& w = weights.packed;
  const GemmKernels& kernels = context.kernels().gemm_for(w.format());
  assert(a.kernels.same_activations(kernels));
  GemmArgs args = product_of(a, w, y, blocks);
  args.epilogue.bias = weights.bias_at;
  parallel_tiles(context, args, kernels, w.panels(), a.m * w.n() * (w.k() / 8 + 1));
}

/// Weights without kernels for so many rows, or in exact arithmetic: the real values of one panel
/// at a time in float32, as the rules of the format have them, then a float product. Cost: the
/// rules' scalar loop once per weight and call, so it pays from some ten rows on; memory: one panel
/// a thread.
void multiply_widened(Context& context, const Activations& a, const LayerWeights& weights,
                      const AnyMatrix& y, Share blocks) {
  const PackedWeights& w = weights.packed;
  const PackedWeights::State& state = w.state();
  const GemmKernels& kernels = context.kernels().gemm_for(WeightFormat::float32);
  assert(kernels.layout.kr == 1);
  const std::int64_t nr = kernels.layout.nr;
  const std::int64_t panels = kernels.layout.panels(w.n());
  const std::int64_t tasks = std::min<std::int64_t>(panels, context.executor().concurrency());
  const GemmKernels& own = context.kernels().gemm_for(w.format());
  const bool by_kernel =
      own.widen_panel != nullptr && !state.is_plain_nibbles() && own.layout.nr == nr;
  const std::int64_t codes_bytes = align_up(state.decode_scratch());
  const std::int64_t values_bytes = align_up(w.k() * 4);
  const std::int64_t panel_bytes = align_up(nr * std::max(a.k_padded, w.k_padded()) * 4);
  const std::int64_t bias_bytes = align_up(nr * 4);  // whole panels, which the layer's is not
  const std::int64_t task_bytes = codes_bytes + values_bytes + panel_bytes + bias_bytes;
  std::byte* const scratch = context.workspace(static_cast<std::size_t>(tasks * task_bytes), 2);
  const std::int64_t y_size = describe(y.dtype).bits / 8;
  parallel(context, tasks, a.m * w.n() * (w.k() / 8 + 1),
           [&](std::int64_t begin, std::int64_t end) {
             for (std::int64_t task = begin; task < end; ++task) {
               std::byte* const codes = scratch + task * task_bytes;
               auto* const values = reinterpret_cast<float*>(codes + codes_bytes);
               auto* const panel = reinterpret_cast<float*>(codes + codes_bytes + values_bytes);
               auto* const bias = reinterpret_cast<float*>(codes + task_bytes - bias_bytes);
               std::fill_n(bias, nr, 0.0f);
               for (std::int64_t p = panels * task / tasks; p < panels * (task + 1) / tasks; ++p) {
                 const std::int64_t first = p * nr;
                 const std::int64_t outputs = std::min(nr, w.n() - first);
                 GemmArgs args = product_of(a, w, y, blocks);
                 if (by_kernel) {
                   args.range.panel_begin = p;
                   own.widen_panel(args, panel);
                 } else {
                   std::fill_n(panel, nr * a.k_padded, 0.0f);
                   for (std::int64_t n = 0; n < outputs; ++n) {
                     state.decode_row(first + n, codes, values);
                     float* const to = panel + n;  // [k][nr]: float kernels take k one by one
                     for (std::int64_t k = 0; k < w.k(); ++k) to[k * nr] = values[k];
                   }
                 }
                 args.b = panel;
                 args.b_offset = nullptr;
                 args.range.n = outputs;
                 args.range.panel_begin = 0;
                 args.range.panel_end = 1;
                 args.epilogue.y = static_cast<std::byte*>(y.data) + first * y_size;
                 if (!weights.bias.empty()) {
                   std::copy_n(weights.bias.data() + first, outputs, bias);
                   args.epilogue.bias = bias;
                 }
                 kernels.gemm(args);
               }
             }
           });
}

/// The same on a device: the real values of some outputs at a time, by a kernel, into its memory.
/// Cost: they are written and read once for each call.
void multiply_widened_on_device(Context& context, const Activations& a, const LayerWeights& weights,
                                const AnyMatrix& y, Share blocks) {
  constexpr std::int64_t kMostValues = std::int64_t{1} << 23;  // 32 MiB
  const PackedWeights& w = weights.packed;
  const GemmKernels& own = context.kernels().gemm_for(w.format());
  const GemmKernels& kernels = context.kernels().gemm_for(WeightFormat::float32);
  const std::int64_t at_once = std::min(
      w.n(), std::max<std::int64_t>(1, kMostValues / std::max<std::int64_t>(1, a.k_padded)));
  auto* const values = reinterpret_cast<float*>(
      context.workspace(static_cast<std::size_t>(at_once * a.k_padded) * sizeof(float), 2));
  const std::int64_t y_size = describe(y.dtype).bits / 8;
  GemmArgs all = product_of(a, w, y, blocks);
  all.columns = {
      .columns = nullptr, .scale = w.scales(), .factor = 1.0f, .rounded_to = DType::float32};
  all.queue = context.queue();
  for (std::int64_t first = 0; first < w.n(); first += at_once) {
    GemmArgs args = all;
    args.range.panel_begin = first;
    args.range.panel_end = std::min(w.n(), first + at_once);
    own.widen_panel(args, values);
    args.range.n = args.range.panel_end - first;
    args.range.panel_begin = 0;
    args.range.panel_end = args.range.n;
    args.b = values;
    args.b_offset = nullptr;
    args.epilogue.y = static_cast<std::byte*>(y.data) + first * y_size;
    if (!weights.bias.empty()) args.epilogue.bias = weights.bias_at + first;
    kernels.gemm(args);
  }
}

}  // namespace

void multiply(Context& context, const Activations& a, const ActivationRules* rules,
              const LayerWeights& weights, const AnyMatrix& y, Share blocks) {
  if (a.planes == 2) {
    assert(blocks.end == 0);
    multiply_int15(context, a, weights, y);
    return;
  }
  if (blocks.end == 0) blocks = {0, a.blocks().count()};
  const WeightFormatInfo& info = describe(weights.packed.format());
  const GemmKernels& kernels = context.kernels().gemm_for(info.format);
  const bool of_floats = kernels.gemm != nullptr && !info.has_integer_products();
  if (rules != nullptr) {
    multiply_int8(context, a, *rules, weights, y, blocks);
  } else if (of_floats && (kernels.most_rows == 0 || a.m <= kernels.most_rows)) {
    multiply_float(context, a, weights, y, blocks);
  } else if (context.memory() != nullptr) {
    multiply_widened_on_device(context, a, weights, y, blocks);
  } else {
    multiply_widened(context, a, weights, y, blocks);
  }
}

}  // namespace kvant::detail
