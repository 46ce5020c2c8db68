// The scalar kernels: the rules of quantize.hpp in loops. What every other set must equal bit for
// bit, and what runs where there is nothing better. Built for the plain processor. Weights are
// plain row-major [n][k], so that the compiler may vectorise the inner product with whatever that
// processor has.

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/found_weights.hpp"
#include "cpu/scalar_epilogue.hpp"
#include "cpu/scalar_groups.hpp"
#include "cpu/scalar_nibbles.hpp"
#include "cpu/tables.hpp"
#include "kvant/float_element.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

/// As minps and maxps: the second operand where either is NaN.
float minimum(float a, float b) noexcept {
  return a < b ? a : b;
}
float maximum(float a, float b) noexcept {
  return a > b ? a : b;
}

/// A code as activations have it.
std::uint8_t stored_code(ActivationFormat format, std::int32_t code) noexcept {
  return static_cast<std::uint8_t>(format == ActivationFormat::u8_offset ? code + 128 : code);
}

float load_activation(const QuantizeRowsArgs& q, std::int64_t r, std::int64_t c) noexcept {
  if (q.keep_mask != nullptr && q.keep_mask[c] == 0) return 0.0f;
  const float value = load_element(q.x.data, q.x.dtype, r * q.x.stride + c);
  return q.bitsandbytes ? static_cast<float>(float16(value)) : value;
}

void quantize_rows(const QuantizeRowsArgs& q) noexcept {
  for (std::int64_t r = 0; r < q.x.rows; ++r) {
    float absmax = 0.0f;
    bool poisoned = false;
    for (std::int64_t c = 0; c < q.x.cols; ++c) {
      const float magnitude = std::fabs(load_activation(q, r, c));
      if (magnitude != magnitude) {
        poisoned = true;
      } else if (magnitude < q.threshold) {
        absmax = maximum(magnitude, absmax);
      } else if (q.outlier_columns != nullptr) {
        q.outlier_columns[c] = 1;
      } else {
        poisoned = true;
      }
    }
    if (q.given_absmax != nullptr) absmax = *q.given_absmax;
    if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
    if (poisoned) absmax = std::numeric_limits<float>::quiet_NaN();
    q.absmax[r] = absmax;
    if (q.row_scale != nullptr) q.row_scale[r] = q.bitsandbytes ? absmax : absmax / 127.0f;
    if (q.codes == nullptr) continue;
    auto* codes = static_cast<std::uint8_t*>(q.codes) + r * q.code_stride;
    const bool has_codes = absmax > 0.0f && absmax < std::numeric_limits<float>::infinity();
    const float quotient = q.bitsandbytes ? 1.0f / absmax * 127.0f : 127.0f / absmax;
    const float inverse_scale = has_codes ? quotient : 0.0f;
    for (std::int64_t c = 0; c < q.k_padded; ++c) {
      std::int32_t code = 0;
      if (has_codes && c < q.x.cols) {
        const float value = load_activation(q, r, c);
        if (std::fabs(value) < q.threshold) {
          const float scaled = maximum(value * inverse_scale, -127.0f);
          code = static_cast<std::int32_t>(round_half_even(minimum(scaled, 127.0f)));
        }
      }
      codes[c] = stored_code(q.format, code);
    }
  }
}

void list_outliers(const ListOutliersArgs& a) noexcept {
  for (std::int64_t task = 1; task < a.tasks; ++task) {
    const std::uint8_t* other = a.flags + task * a.cols;
    for (std::int64_t c = 0; c < a.cols; ++c) a.flags[c] |= other[c];
  }
  std::int64_t count = 0;
  const std::uint8_t* const end = a.flags + a.cols;
  for (const std::uint8_t* at = a.flags; at != end; ++at) {
    at = static_cast<const std::uint8_t*>(std::memchr(at, 1, static_cast<std::size_t>(end - at)));
    if (at == nullptr) break;
    a.columns[count++] = at - a.flags;
  }
  *a.count = count;
  if (count == 0 || a.codes == nullptr) return;
  const std::uint8_t zero = stored_code(a.format, 0);
  for (std::int64_t b = 0; b < a.blocks.count(); ++b) {
    auto* block = static_cast<std::uint8_t*>(a.codes) + a.blocks.first(b) * a.k_padded;
    const std::int32_t rows = a.blocks.rows(b);
    for (std::int64_t j = 0; j < count; ++j) {
      for (std::int32_t r = 0; r < rows; ++r) block[a.blocks.offset(rows, r, a.columns[j])] = zero;
    }
  }
}

void gather_features(const GatherFeaturesArgs& a) noexcept {
  for (std::int64_t r = 0; r < a.x.rows; ++r) {
    for (std::int64_t j = 0; j < a.count; ++j) {
      const float value = load_element(a.x.data, a.x.dtype, r * a.x.stride + a.columns[j]);
      const bool outlying = a.threshold == 0.0f || std::fabs(value) >= a.threshold;
      a.to[j * a.x.rows + r] = outlying ? value : 0.0f;
    }
  }
}

void range(const RangeArgs& a) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (std::int64_t r = 0; r < a.x.rows; ++r) {
    float low = kInfinity;
    float high = -kInfinity;
    for (std::int64_t c = 0; c < a.x.cols; ++c) {
      const float value = load_element(a.x.data, a.x.dtype, r * a.x.stride + c);
      float& smallest = a.per_column ? a.min[c] : low;
      float& largest = a.per_column ? a.max[c] : high;
      smallest = minimum(value, smallest);
      largest = maximum(value, largest);
    }
    if (!a.per_column) {
      a.min[r] = low;
      a.max[r] = high;
    }
  }
}

void quantize(const QuantizeArgs& a) noexcept {
  const auto lowest = static_cast<std::int32_t>(a.lowest);
  const auto highest = static_cast<std::int32_t>(a.highest);
  for (std::int64_t r = 0; r < a.x.rows; ++r) {
    auto* codes = static_cast<std::uint8_t*>(a.codes) + r * a.code_stride;
    for (std::int64_t c = 0; c < a.x.cols; ++c) {
      const std::int64_t p = r * a.row_step + c * a.col_step;
      const float value = load_element(a.x.data, a.x.dtype, r * a.x.stride + c);
      codes[c] = static_cast<std::uint8_t>(quantize_value(
          value, a.scale[p], static_cast<std::int32_t>(a.zero_point[p]), lowest, highest, a.order));
    }
  }
}

void dequantize(const DequantizeArgs& a) noexcept {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const auto* codes = static_cast<const std::uint8_t*>(a.codes) + r * a.code_stride;
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const std::int64_t p = r * a.row_step + c * a.col_step;
      const std::int32_t code =
          a.is_unsigned ? std::int32_t{codes[c]} : std::int32_t{static_cast<std::int8_t>(codes[c])};
      store_element(a.y, a.y_dtype, r * a.y_stride + c,
                    dequantize_value(code, a.scale[p], static_cast<std::int32_t>(a.zero_point[p])));
    }
  }
}

void convert(const ConvertArgs& a) noexcept {
  for (std::int64_t i = 0; i < a.count; ++i) {
    store_element(a.y, a.y_dtype, i, load_element(a.x, a.x_dtype, i));
  }
}

void gather_output(const GemmArgs& g, std::int64_t n, float* w) noexcept {  // a panel is an output
  const auto* codes = static_cast<const std::int8_t*>(g.b) + n * g.range.k_padded;
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j) {
    const auto code = static_cast<float>(codes[g.columns.columns[j]]);
    w[j] = round_to(g.columns.rounded_to, code * g.columns.scale[n] * g.columns.factor);
  }
}

void gather_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    gather_output(g, n, w + n * g.epilogue.outliers.found.count);
  }
}

void finish(const Epilogue& e, std::int64_t m, std::int64_t n, std::int32_t acc) noexcept {
  if (e.y_dtype == DType::int32) {
    static_cast<std::int32_t*>(e.y)[m * e.y_stride + n] = acc;
    return;
  }
  finish_value(e, m, n, static_cast<float>(acc) * (e.row_scale[m] * e.col_scale[n]) * e.scale);
}

std::int32_t dot(const std::int8_t* a, const std::int8_t* b, std::int64_t k) noexcept {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    sum += static_cast<std::int32_t>(static_cast<std::int16_t>(a[i])) *
           static_cast<std::int32_t>(static_cast<std::int16_t>(b[i]));
  }
  return sum;
}

void gemm_int8(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  const std::int64_t k = g.range.k_padded;
  for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
    found.turn_to(n, [&](float* weights) { gather_output(g, n, weights); });
    const auto* b = static_cast<const std::int8_t*>(g.b) + n * k;
    for (std::int64_t m = g.range.block_begin; m < g.range.block_end; ++m) {  // a block is a row
      const std::int32_t sum = dot(static_cast<const std::int8_t*>(g.a) + m * k, b, k);
      finish(g.epilogue, m, n, g.b_offset != nullptr ? sum - g.b_offset[n] : sum);
    }
  }
}

float widen(float value) noexcept {
  return value;
}
float widen(std::uint16_t bits) noexcept {
  return bfloat_bits_to_float(bits);
}
float widen(float16 value) noexcept {
  return static_cast<float>(value);
}

/// Weights [n][k] of type T (a std::uint16_t is a bfloat16).
template <class T>
void gemm_float(const GemmArgs& g) noexcept {
  const Epilogue& e = g.epilogue;
  const std::int64_t k_padded = g.range.k_padded;
  for (std::int64_t m = g.range.block_begin; m < g.range.block_end; ++m) {  // a block is a row
    const auto* a = static_cast<const float*>(g.a) + m * k_padded;
    for (std::int64_t n = g.range.panel_begin; n < g.range.panel_end; ++n) {
      const T* b = static_cast<const T*>(g.b) + n * k_padded;
      float sums[4] = {};
      for (std::int64_t k = 0; k < k_padded; k += 4) {  // four sums: additions have latency
        for (int i = 0; i < 4; ++i) sums[i] += a[k + i] * widen(b[k + i]);
      }
      float value = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      if (e.bias != nullptr) value += e.bias[n];
      store_element(e.y, e.y_dtype, m * e.y_stride + n, value);
    }
  }
}

template <class T>
constexpr GemmKernels float_kernels(ActivationFormat activations) noexcept {
  return {.activations = activations,
          .layout = {.nr = 1, .kr = 1, .k_pad = 4},
          .mr = 1,
          .group = 4,
          .gemm = &gemm_float<T>,
          .gather_columns = nullptr};
}

}  // namespace

constinit const KernelTable kernels_scalar = [] {
  KernelTable table = empty_table("scalar");
  table.quantize_rows = &quantize_rows;
  table.list_outliers = &list_outliers;
  table.sum_codes = &nibbles::sum_codes;
  table.gather_features = &gather_features;
  table.range = &range;
  table.quantize = &quantize;
  table.dequantize = &dequantize;
  table.convert = &convert;
  give(table, WeightFormat::int8_row,
       {.activations = ActivationFormat::s8,
        .layout = {.nr = 1, .kr = 1, .k_pad = 16},
        .mr = 1,
        .group = 4,
        .gemm = &gemm_int8,
        .gather_columns = &gather_columns});
  give(table, WeightFormat::int4_group, nibbles::kernels<nibbles::LinearCodes>());
  give(table, WeightFormat::nf4, nibbles::kernels<nibbles::BookCodes<nibbles::kOwnNf4>>());
  give(table, WeightFormat::fp4, nibbles::kernels<nibbles::BookCodes<nibbles::kOwnFp4>>());
  give(table, WeightFormat::int8_group, groups::kernels());
  give(table, WeightFormat::float16, float_kernels<float16>(ActivationFormat::f32));
  give(table, WeightFormat::bfloat16, float_kernels<std::uint16_t>(ActivationFormat::bf16_widened));
  give(table, WeightFormat::float32, float_kernels<float>(ActivationFormat::f32));
  return table;
}();

}  // namespace kvant::detail
