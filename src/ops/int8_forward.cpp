// The LLM.int8() forward pass: quantize the rows and find outliers in one read, gather the few
// outlier features, then one GEMM whose epilogue does all the rest. numerics.md, both modes.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kvant/error.hpp"
#include "ops/int8_weights.hpp"
#include "ops/parallel_tiles.hpp"
#include "ops/row_blocks.hpp"
#include "ops/validate.hpp"

namespace kvant::detail {
namespace {

/// Hands out pieces of one workspace block; the first pass (base null) only measures.
class Carver {
 public:
  explicit Carver(std::byte* base) noexcept : base_(base) {}
  template <class T>
  T* take(std::int64_t count) noexcept {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += align_up(count * static_cast<std::int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(at);
  }
  [[nodiscard]] std::size_t used() const noexcept { return static_cast<std::size_t>(used_); }

 private:
  std::byte* base_;
  std::int64_t used_ = 0;
};

/// One call: its pieces of workspace and the steps in order.
class Forward {
 public:
  Forward(Context& context, const Int8Weights& weights, const ConstAnyMatrix& x,
          const AnyMatrix& y) noexcept
      : context_(context),
        w_(weights),
        x_(x),
        y_(y),
        m_(x.rows),
        tasks_(context, x.rows, weights.codes.k_padded()) {}

  void run() {
    plan_activations();
    quantize_activations();
    find_outlier_columns();
    gather_outliers();
    if (w_.options.check_finite) check_finite();
    multiply();
  }

 private:
  /// Infinities always take the float path; other outliers when they are searched.
  [[nodiscard]] float search_threshold() const noexcept {
    const bool search = w_.options.threshold > 0.0f && w_.options.outliers != Outliers::calibrated;
    return search ? w_.options.threshold : std::numeric_limits<float>::infinity();
  }
  /// A column with an outlier leaves the int8 product for all rows, not only for its own.
  [[nodiscard]] bool whole_columns() const noexcept {
    return w_.options.outliers == Outliers::per_call && w_.options.threshold > 0.0f;
  }
  /// bitsandbytes does not look for outliers at threshold 0: an infinity makes the row NaN.
  [[nodiscard]] bool ignores_outliers() const noexcept {
    return w_.is_parity() && w_.options.threshold == 0.0f;
  }

  void plan_activations() {
    const auto carve = [this](std::byte* base) {
      Carver carver(base);
      codes_ = carver.take<std::byte>(tasks_.activation_bytes());
      scratch_ = carver.take<std::byte>(tasks_.count * tasks_.scratch_bytes());
      absmax_ = carver.take<float>(m_);
      row_scale_ = carver.take<float>(m_);
      flags_ = carver.take<std::uint8_t>(tasks_.count * w_.k());
      columns_ = carver.take<std::int64_t>(w_.k());
      return carver.used();
    };
    carve(context_.workspace(carve(nullptr)));
  }

  [[nodiscard]] QuantizeRowsArgs quantize_args(std::int64_t first, std::int64_t rows,
                                               std::byte* codes,
                                               std::uint8_t* flags) const noexcept {
    const std::int64_t element = describe(x_.dtype).bits / 8;
    return {.x = {static_cast<const std::byte*>(x_.data) + first * x_.stride * element, x_.dtype,
                  rows, w_.k(), x_.stride},
            .parity = w_.is_parity(),
            .threshold = search_threshold(),
            .keep_mask = w_.keep_mask.data(),
            .given_absmax = nullptr,
            .codes = codes,
            .format = context_.kernels().activation_format,
            .code_stride = tasks_.scratch_stride(),
            .k_padded = w_.codes.k_padded(),
            .absmax = absmax_ + first,
            .outlier_columns = ignores_outliers() ? nullptr : flags};
  }

  /// The row blocks of one task: rows quantized into a small scratch, then interleaved.
  void quantize_task(std::int64_t task, bool with_codes, const float* given) noexcept {
    std::uint8_t* flags = flags_ + task * w_.k();
    const auto quantize = [&](std::int64_t first, std::int64_t rows, std::byte* codes) {
      QuantizeRowsArgs args = quantize_args(first, rows, codes, flags);
      args.given_absmax = given;
      context_.kernels().quantize_rows(args);
    };
    if (with_codes) {
      tasks_.fill(task, scratch_ + task * tasks_.scratch_bytes(), codes_, quantize);
    } else {
      const std::int64_t first = m_ * task / tasks_.count;
      quantize(first, m_ * (task + 1) / tasks_.count - first, nullptr);
    }
  }

  void quantize_activations() {
    const bool per_tensor = w_.options.activation_scale == ActivationScale::per_tensor;
    std::memset(flags_, 0, static_cast<std::size_t>(tasks_.count * w_.k()));
    float tensor_absmax = 0.0f;
    const auto pass = [&](bool with_codes, const float* given) {
      parallel(context_, tasks_.count, m_ * w_.k() * 2, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
          quantize_task(task, with_codes, given);
        }
      });
    };
    if (per_tensor) {
      pass(false, nullptr);
      for (std::int64_t m = 0; m < m_; ++m) {  // a NaN row stays its own matter
        if (absmax_[m] > tensor_absmax) tensor_absmax = absmax_[m];
      }
      pass(true, &tensor_absmax);
    } else {
      pass(true, nullptr);
    }
    for (std::int64_t m = 0; m < m_; ++m) {
      row_scale_[m] = w_.is_parity() ? absmax_[m] : absmax_[m] / 127.0f;
    }
  }

  /// columns_[0, outliers_): ascending. Clears their codes where whole columns leave.
  void find_outlier_columns() noexcept {
    outliers_ = 0;
    if (ignores_outliers()) return;
    for (std::int64_t task = 1; task < tasks_.count; ++task) {
      const std::uint8_t* other = flags_ + task * w_.k();
      for (std::int64_t k = 0; k < w_.k(); ++k) flags_[k] |= other[k];
    }
    for (const std::uint8_t* at = flags_; at != flags_ + w_.k(); ++at) {
      at = static_cast<const std::uint8_t*>(
          std::memchr(at, 1, static_cast<std::size_t>(flags_ + w_.k() - at)));
      if (at == nullptr) break;
      columns_[outliers_++] = at - flags_;
    }
    if (outliers_ == 0 || !whole_columns()) return;
    const bool offset = context_.kernels().activation_format == CodeFormat::u8_offset;
    const std::byte zero{offset ? std::uint8_t{128} : std::uint8_t{0}};
    for (std::int64_t b = 0; b < tasks_.blocks.count(); ++b) {
      std::byte* block = codes_ + tasks_.blocks.first(b) * w_.codes.k_padded();
      const std::int32_t rows = tasks_.blocks.rows(b);
      for (std::int64_t j = 0; j < outliers_; ++j) {
        for (std::int32_t r = 0; r < rows; ++r) block[code_offset(rows, r, columns_[j])] = zero;
      }
    }
  }

  void gather_outliers() {
    const auto kept = static_cast<std::int64_t>(w_.keep_columns.size());
    const std::int64_t padded_n = w_.codes.layout().padded_n(w_.n());
    const auto carve = [&](std::byte* base) {
      Carver carver(base);
      kept_x_ = carver.take<float>(m_ * kept);
      outlier_x_ = carver.take<float>(m_ * outliers_);
      outlier_w_ = carver.take<float>(gathers_first() ? padded_n * outliers_ : 0);
      bias_ = carver.take<float>(needs_rounded_bias() ? padded_n : 0);
      return carver.used();
    };
    carve(context_.workspace(carve(nullptr), 1));

    const float threshold = search_threshold();
    for (std::int64_t m = 0; m < m_; ++m) {
      for (std::int64_t j = 0; j < kept; ++j) {
        kept_x_[j * m_ + m] = load_float(x_, m, w_.keep_columns[static_cast<std::size_t>(j)]);
      }
      for (std::int64_t j = 0; j < outliers_; ++j) {
        const float value = load_float(x_, m, columns_[j]);
        // Otherwise the element is in the int8 product; NaN is already in the row's scale.
        const bool here = whole_columns() || std::fabs(value) >= threshold;
        outlier_x_[j * m_ + m] = here ? value : 0.0f;
      }
    }
    if (needs_rounded_bias()) {
      for (std::int64_t n = 0; n < padded_n; ++n) {
        bias_[n] = round_to(x_.dtype, w_.bias[static_cast<std::size_t>(n)]);
      }
    }
  }

  [[nodiscard]] bool needs_rounded_bias() const noexcept {
    return w_.is_parity() && !w_.bias.empty() && x_.dtype != w_.bias_dtype &&
           x_.dtype != DType::float32;
  }

  /// More outlier columns than the GEMM has room for.
  [[nodiscard]] bool gathers_first() const noexcept {
    return outliers_ * w_.codes.layout().nr > kGatheredWeights;
  }

  void check_finite() const {
    const auto kept = static_cast<std::int64_t>(w_.keep_columns.size());
    for (std::int64_t m = 0; m < m_; ++m) {
      bool finite = std::isfinite(absmax_[m]);
      for (std::int64_t j = 0; j < kept; ++j) finite &= std::isfinite(kept_x_[j * m_ + m]);
      for (std::int64_t j = 0; j < outliers_; ++j) {
        finite &= std::isfinite(outlier_x_[j * m_ + m]);
      }
      if (!finite) {
        fail(ErrorCode::not_finite,
             "Int8Linear::forward: row " + std::to_string(m) + " of x has NaN or Inf");
      }
    }
  }

  void multiply() {
    const auto kept = static_cast<std::int64_t>(w_.keep_columns.size());
    const std::int64_t nr = w_.codes.layout().nr;
    const KernelTable& kernels = context_.kernels();
    const float* scale = w_.is_parity() ? w_.absmax.data() : w_.col_factor.data();
    GemmArgs args{
        .a = codes_,
        .b = w_.codes.data(),
        .b_offset = w_.codes.offsets(),
        .residuals = w_.codes.residuals(),
        .m = m_,
        .n = w_.n(),
        .k_padded = w_.codes.k_padded(),
        .block_begin = 0,
        .block_end = 0,
        .panel_begin = 0,
        .panel_end = 0,
        .columns = {.columns = columns_,
                    .scale = scale,
                    .factor = w_.is_parity() ? kInverse127 : 1.0f,
                    .rounded_to = w_.is_parity() ? x_.dtype : DType::float32},
        .epilogue = {.y = y_.data,
                     .y_dtype = y_.dtype,
                     .y_stride = y_.stride,
                     .row_scale = row_scale_,
                     .col_scale = scale,
                     .scale = w_.is_parity() ? kParityScale : 1.0f,
                     .bias = needs_rounded_bias() ? bias_ : w_.bias.data(),
                     .outliers = {{kept_x_, m_, w_.kept.data(), kept * nr, w_.kept_dtype, kept},
                                  {outlier_x_, m_, nullptr, 0, DType::float32, outliers_}},
                     .round_first = w_.is_parity()}};
    if (gathers_first()) {
      parallel(context_, w_.codes.panels(), w_.codes.panels() * nr * outliers_,
               [&](std::int64_t begin, std::int64_t end) {
                 GemmArgs part = args;
                 part.panel_begin = begin;
                 part.panel_end = end;
                 kernels.gather_columns(part, outlier_w_);
               });
      args.epilogue.outliers[1].w = outlier_w_;
      args.epilogue.outliers[1].w_stride = outliers_ * nr;
    }
    parallel_tiles(context_, args, w_.codes.panels(), w_.codes.k_padded(),
                   m_ * w_.n() * (w_.k() / 16 + 1),
                   [&](const GemmArgs& part) { kernels.gemm(part); });
  }

  Context& context_;
  const Int8Weights& w_;
  const ConstAnyMatrix& x_;
  const AnyMatrix& y_;
  std::int64_t m_;
  RowBlockTasks tasks_;

  std::int64_t outliers_ = 0;
  std::byte* codes_ = nullptr;
  std::byte* scratch_ = nullptr;
  float* absmax_ = nullptr;
  float* row_scale_ = nullptr;
  std::uint8_t* flags_ = nullptr;
  std::int64_t* columns_ = nullptr;
  float* kept_x_ = nullptr;
  float* outlier_x_ = nullptr;
  float* outlier_w_ = nullptr;
  float* bias_ = nullptr;
};

}  // namespace

void int8_forward(Context& context, const Int8Weights& weights, const ConstAnyMatrix& x,
                  const AnyMatrix& y) {
  constexpr const char* kWho = "Int8Linear::forward";
  check_float(kWho, "x", x);
  check_float(kWho, "y", y);
  check_writable(kWho, "y", y);
  if (x.cols != weights.k()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": x has " + std::to_string(x.cols) +
                                        " columns, the layer takes " + std::to_string(weights.k()) +
                                        " inputs");
  }
  if (y.rows != x.rows || y.cols != weights.n()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": y is " + shape_text(y.rows, y.cols) +
                                        "; " + shape_text(x.rows, weights.n()) + " is wanted");
  }
  if (overlap(x, y)) fail(ErrorCode::invalid_argument, std::string(kWho) + ": y overlaps x");
  if (!weights.codes.fits(context.kernels())) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are packed for \"" +
                                     weights.codes.packed_for() + "\", the context runs \"" +
                                     context.kernels().name +
                                     "\"; build the layer with the same context");
  }
  if (y.rows == 0 || y.cols == 0) return;
  const ScopedFloatEnvironment environment;
  Forward(context, weights, x, y).run();
}

}  // namespace kvant::detail
