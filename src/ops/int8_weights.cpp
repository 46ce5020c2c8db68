#include "ops/int8_weights.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kvant/error.hpp"
#include "ops/parallel.hpp"
#include "ops/validate.hpp"

namespace kvant::detail {

float Int8Weights::kept_weight(std::int64_t n, std::int64_t j) const noexcept {
  const std::int64_t nr = codes.layout().nr;
  const auto count = static_cast<std::int64_t>(keep_columns.size());
  const std::uint16_t bits =
      kept[static_cast<std::size_t>((n / nr) * count * nr + j * nr + n % nr)];
  return kept_dtype == DType::bfloat16 ? bfloat_bits_to_float(bits) : half_bits_to_float(bits);
}

void check_options(const char* who, const Int8Options& options, std::int64_t k) {
  if (!(options.threshold >= 0.0f)) {  // NaN too
    fail(ErrorCode::invalid_argument, std::string(who) + ": threshold " +
                                          std::to_string(options.threshold) +
                                          "; it must be 0 (no outliers) or positive");
  }
  const bool parity = options.arithmetic == Arithmetic::bitsandbytes;
  if (parity && (!options.keep_columns.empty() || options.outliers != Outliers::per_call ||
                 options.activation_scale != ActivationScale::per_row)) {
    fail(
        ErrorCode::invalid_argument,
        std::string(who) +
            ": bitsandbytes' arithmetic has per-call outliers, per-row scales and no kept columns");
  }
  std::int64_t previous = -1;
  for (const std::int64_t column : options.keep_columns) {
    if (column < 0 || column >= k) {
      fail(ErrorCode::out_of_range, std::string(who) + ": keep_columns names column " +
                                        std::to_string(column) + " of " + std::to_string(k));
    }
    if (column <= previous) {
      fail(ErrorCode::invalid_argument,
           std::string(who) + ": keep_columns must ascend without duplicates; " +
               std::to_string(column) + " follows " + std::to_string(previous));
    }
    previous = column;
  }
}

namespace {

/// What all ways of building share: everything but codes and absmax.
Int8Weights make_frame(const char* who, Context& context, std::int64_t n, std::int64_t k,
                       const ConstAnyMatrix& bias, const Int8Options& options) {
  check_options(who, options, k);
  check_bias(who, bias, n);
  Int8Weights w;
  w.codes = PackedMatrix(context.kernels(), n, k);
  w.options = options;
  w.options.keep_columns = {};
  const auto padded = static_cast<std::size_t>(w.codes.layout().padded_n(n));
  w.absmax = AlignedArray<float>(padded, 0.0f);
  w.col_factor = AlignedArray<float>(padded, 0.0f);
  if (bias.rows != 0) {
    w.bias = AlignedArray<float>(padded, 0.0f);
    w.bias_dtype = bias.dtype;
    for (std::int64_t i = 0; i < n; ++i) {
      w.bias[static_cast<std::size_t>(i)] = load_float(bias, 0, i);
    }
  }
  w.keep_columns.assign(options.keep_columns.begin(), options.keep_columns.end());
  if (!w.keep_columns.empty()) {
    w.keep_mask = AlignedArray<std::int16_t>(static_cast<std::size_t>(k), std::int16_t{-1});
    for (const std::int64_t column : w.keep_columns) {
      w.keep_mask[static_cast<std::size_t>(column)] = 0;
    }
    w.kept = AlignedArray<std::uint16_t>(padded * w.keep_columns.size(), std::uint16_t{0});
  }
  return w;
}

/// Stores value(n, j) for every kept column: fp16, or bf16 for all when one leaves fp16's range.
template <class Value>
void keep_weights(Int8Weights& w, Value&& value) {
  const auto count = static_cast<std::int64_t>(w.keep_columns.size());
  for (std::int64_t n = 0; n < w.n(); ++n) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float v = value(n, j);
      if (std::isfinite(v) && std::isinf(static_cast<float>(float16(v)))) {
        w.kept_dtype = DType::bfloat16;
      }
    }
  }
  const std::int64_t nr = w.codes.layout().nr;
  for (std::int64_t n = 0; n < w.n(); ++n) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float v = value(n, j);
      w.kept[static_cast<std::size_t>((n / nr) * count * nr + j * nr + n % nr)] =
          w.kept_dtype == DType::bfloat16 ? float_to_bfloat_bits(v) : float_to_half_bits(v);
    }
  }
}

void set_factors(Int8Weights& w) noexcept {
  for (std::size_t i = 0; i < w.absmax.size(); ++i) w.col_factor[i] = w.absmax[i] / 127.0f;
}

void check_weights_finite(const char* who, const Int8Weights& w) {
  for (std::int64_t n = 0; n < w.n(); ++n) {
    if (!std::isfinite(w.absmax[static_cast<std::size_t>(n)])) {
      fail(ErrorCode::not_finite,
           std::string(who) + ": the weights of output " + std::to_string(n) + " have NaN or Inf");
    }
  }
}

}  // namespace

Int8Weights quantize_weights(Context& context, const ConstAnyMatrix& weights,
                             const ConstAnyMatrix& bias, const Int8Options& options) {
  constexpr const char* kWho = "Int8Linear::quantize";
  check_float(kWho, "weights", weights);
  const ScopedFloatEnvironment environment;
  Int8Weights w = make_frame(kWho, context, weights.rows, weights.cols, bias, options);

  // Panel by panel: the only copy of the codes beside the packed ones is one panel per thread.
  const std::int64_t nr = std::max<std::int64_t>(w.codes.layout().nr, 16);
  const std::int64_t blocks = (w.n() + nr - 1) / nr;
  // + 64: rows of 4096 bytes would all fall into the same cache sets.
  const std::int64_t row_bytes = w.codes.layout().padded_k(w.k()) + 64;
  const auto tasks = std::min<std::int64_t>(blocks, context.executor().concurrency());
  const std::int64_t task_bytes = nr * row_bytes;
  auto* scratch = reinterpret_cast<std::int8_t*>(
      context.workspace(static_cast<std::size_t>(tasks * task_bytes)));
  const std::int64_t element = describe(weights.dtype).bits / 8;
  const KernelTable& kernels = context.kernels();
  parallel(context, tasks, w.n() * w.k(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      std::int8_t* codes = scratch + task * task_bytes;
      for (std::int64_t b = blocks * task / tasks; b < blocks * (task + 1) / tasks; ++b) {
        const std::int64_t first = b * nr;
        const std::int64_t rows = std::min(nr, w.n() - first);
        const auto* data =
            static_cast<const std::byte*>(weights.data) + first * weights.stride * element;
        kernels.quantize_rows({.x = {data, weights.dtype, rows, w.k(), weights.stride},
                               .parity = w.is_parity(),
                               .threshold = std::numeric_limits<float>::infinity(),
                               .keep_mask = nullptr,
                               .given_absmax = nullptr,
                               .codes = codes,
                               .format = CodeFormat::s8,
                               .code_stride = row_bytes,
                               .k_padded = w.codes.k_padded(),
                               .absmax = w.absmax.data() + first,
                               .outlier_columns = nullptr});
        w.codes.pack_rows(first, MatrixView<const std::int8_t>(codes, rows, w.k(), row_bytes));
      }
    }
  });
  w.codes.seal(context);
  set_factors(w);
  if (options.check_finite) check_weights_finite(kWho, w);
  keep_weights(w, [&](std::int64_t n, std::int64_t j) {
    return load_float(weights, n, w.keep_columns[static_cast<std::size_t>(j)]);
  });
  return w;
}

Int8Weights weights_from_codes(Context& context, MatrixView<const std::int8_t> codes,
                               std::span<const float> absmax, const ConstAnyMatrix& bias,
                               const Int8Options& options, const ConstAnyMatrix& kept_weights) {
  constexpr const char* kWho = "Int8Linear::from_codes";
  check_readable(kWho, "codes", codes);
  const ScopedFloatEnvironment environment;
  if (static_cast<std::int64_t>(absmax.size()) != codes.rows()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + std::to_string(absmax.size()) +
                                        " absmax values for " + std::to_string(codes.rows()) +
                                        " rows of codes");
  }
  for (std::size_t i = 0; i < absmax.size(); ++i) {
    if (!(absmax[i] >= 0.0f) || std::isinf(absmax[i])) {
      fail(ErrorCode::invalid_argument, std::string(kWho) + ": absmax[" + std::to_string(i) +
                                            "] is " + std::to_string(absmax[i]) +
                                            "; it must be finite and not negative");
    }
  }
  Int8Weights w = make_frame(kWho, context, codes.rows(), codes.cols(), bias, options);
  const auto kept = static_cast<std::int64_t>(w.keep_columns.size());
  if (kept > 0 || kept_weights.rows != 0) {
    check_float(kWho, "kept_weights", kept_weights);
    if (kept_weights.rows != codes.rows() || kept_weights.cols != kept) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": kept_weights is " +
                                          shape_text(kept_weights.rows, kept_weights.cols) + "; " +
                                          shape_text(codes.rows(), kept) +
                                          " is wanted, one column per kept column");
    }
  }
  const std::int64_t nr = w.codes.layout().nr;
  parallel(context, w.codes.panels(), w.n() * w.k(), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * nr;
    w.codes.pack_rows(first, codes.rows_from(first, std::min(end * nr, w.n()) - first));
  });
  w.codes.seal(context);
  std::copy(absmax.begin(), absmax.end(), w.absmax.data());
  set_factors(w);
  keep_weights(w, [&](std::int64_t n, std::int64_t j) { return load_float(kept_weights, n, j); });
  return w;
}

}  // namespace kvant::detail
