#include "ops/linear/activations.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kvant/context.hpp"
#include "ops/linear/row_blocks.hpp"
#include "ops/support/border.hpp"
#include "ops/support/device_data.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {

FloatRows rows_of(const ConstAnyMatrix& x, std::int64_t first, std::int64_t rows) noexcept {
  return FloatRows{x.data, x.dtype, x.rows, x.cols, x.stride}.slice(first, rows);
}

QuantizeRowsArgs scan_of(const FloatRows& x, float threshold, float* absmax,
                         std::uint8_t* flags) noexcept {
  QuantizeRowsArgs args{};
  args.x = x;
  args.threshold = threshold;
  args.format = ActivationFormat::s8;
  args.absmax = absmax;
  args.outlier_columns = flags;
  return args;
}

namespace {

/// One batch: its pieces of memory and the steps in order.
class Quantizer {
 public:
  Quantizer(const char* who, Context& context, Workspace& memory, const GemmKernels& kernels,
            const ActivationRules& rules, const ConstAnyMatrix& x) noexcept
      : who_(who),
        context_(context),
        memory_(memory),
        kernels_(kernels),
        rules_(rules),
        x_(x),
        k_padded_(kernels.layout.padded_k(x.cols)),
        tasks_(context, kernels, x.rows, k_padded_) {}

  Activations run() {
    plan();
    quantize();
    list_outliers();
    sum_codes(context_, kernels_, tasks_.blocks, codes_, k_padded_, sums_);
    gather_features();
    const bool on_device = memory_.memory() != nullptr;
    const Activations batch{.m = x_.rows,
                            .k = x_.cols,
                            .k_padded = k_padded_,
                            .x_dtype = x_.dtype,
                            .kernels = kernels_,
                            .data = codes_,
                            .absmax = absmax_,
                            .row_scale = row_scale_,
                            .sums = sums_,
                            .kept_x = kept_x_,
                            .outliers = outliers_,
                            .columns = columns_,
                            .outlier_x = outlier_x_,
                            .outliers_at = on_device ? count_ : nullptr,
                            .x = rows_of(x_, 0, x_.rows)};
    if (rules_.options.check_finite && on_device) {
      check_finite_on_device();
    } else if (rules_.options.check_finite) {
      check_finite(who_, batch, rules_.kept());
    }
    return batch;
  }

 private:
  void plan() {
    carve(memory_, 0, [this](Arena& arena) {
      codes_ = arena.take<std::byte>(tasks_.activation_bytes());
      scratch_ = arena.take<std::byte>(tasks_.count * tasks_.scratch_bytes());
      absmax_ = arena.take<float>(x_.rows);
      row_scale_ = arena.take<float>(x_.rows);
      flags_ = arena.take<std::uint8_t>(tasks_.count * x_.cols);
      columns_ = arena.take<std::int64_t>(x_.cols);
      count_ = arena.take<std::int64_t>(1);
      range_ = arena.take<float>(2);
      sums_ = arena.take<std::int32_t>(words_of_sums(kernels_, x_.rows, k_padded_));
    });
  }

  /// The row blocks of one task: rows quantized into a small scratch, then interleaved.
  void quantize_task(std::int64_t task, bool with_codes, const float* given) noexcept {
    std::uint8_t* flags = flags_ + task * x_.cols;
    const auto quantize = [&](std::int64_t first, std::int64_t rows, std::byte* codes,
                              std::ptrdiff_t stride) {
      context_.kernels().quantize_rows(
          {.x = rows_of(x_, first, rows),
           .bitsandbytes = rules_.is_bitsandbytes(),
           .threshold = rules_.search_threshold(),
           .keep_mask = rules_.mask_at,
           .given_absmax = given,
           .codes = codes,
           .format = kernels_.activations,
           .code_stride = stride,
           .k_padded = k_padded_,
           .absmax = absmax_ + first,
           .row_scale = row_scale_ + first,
           .outlier_columns = rules_.ignores_outliers() ? nullptr : flags,
           .queue = context_.queue()});
    };
    if (with_codes) {
      tasks_.fill(task, scratch_ + task * tasks_.scratch_bytes(), codes_, quantize);
    } else {
      const std::int64_t first = x_.rows * task / tasks_.count;
      quantize(first, x_.rows * (task + 1) / tasks_.count - first, nullptr, 0);
    }
  }

  void quantize() {
    clear(flags_, tasks_.count * x_.cols);
    const auto pass = [&](bool with_codes, const float* given) {
      parallel(context_, tasks_.count, x_.rows * x_.cols * 2,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t task = begin; task < end; ++task) {
                   quantize_task(task, with_codes, given);
                 }
               });
    };
    if (rules_.options.activation_scale == ActivationScale::per_tensor) {
      pass(false, nullptr);
      // The largest, NaN ignored: a NaN row stays its own matter.
      context_.kernels().range({.x = {absmax_, DType::float32, 1, x_.rows, x_.rows},
                                .per_column = false,
                                .min = range_,
                                .max = range_ + 1,
                                .queue = context_.queue()});
      pass(true, range_ + 1);
    } else {
      pass(true, nullptr);
    }
  }

  /// Zero bytes, where the kernels are.
  void clear(void* data, std::int64_t bytes) noexcept {
    if (memory_.memory() != nullptr) {
      memory_.memory()->fill(data, 0, static_cast<std::size_t>(bytes), context_.queue());
    } else {
      std::memset(data, 0, static_cast<std::size_t>(bytes));
    }
  }

  /// columns_[0, *count_): ascending. Clears their codes where whole columns leave.
  void list_outliers() noexcept {
    if (rules_.ignores_outliers()) {
      clear(count_, sizeof(*count_));
      return;
    }
    context_.kernels().list_outliers({.flags = flags_,
                                      .tasks = tasks_.count,
                                      .cols = x_.cols,
                                      .columns = columns_,
                                      .count = count_,
                                      .codes = rules_.whole_columns() ? codes_ : nullptr,
                                      .format = kernels_.activations,
                                      .blocks = tasks_.blocks,
                                      .k_padded = k_padded_,
                                      .queue = context_.queue()});
  }

  /// The activations of outlier features. How many were found only the host's own memory tells: on
  /// a device the product reads them from x itself.
  void gather_features() {
    const bool on_host = memory_.memory() == nullptr;
    outliers_ = on_host ? *count_ : x_.cols;
    carve(memory_, 1, [&](Arena& arena) {
      kept_x_ = arena.take<float>(x_.rows * rules_.kept());
      outlier_x_ = on_host ? arena.take<float>(x_.rows * outliers_) : nullptr;
    });
    const FloatRows x = rows_of(x_, 0, x_.rows);
    const auto gather = [&](const std::int64_t* columns, std::int64_t count, float threshold,
                            float* to) {
      if (count == 0) return;
      context_.kernels().gather_features({x, columns, count, threshold, to, context_.queue()});
    };
    gather(rules_.columns_at, rules_.kept(), 0.0f, kept_x_);
    if (on_host) gather(columns_, outliers_, rules_.outlier_threshold(), outlier_x_);
  }

  /// The one thing that makes a device's caller wait.
  void check_finite_on_device() const {
    const Memory& memory = *memory_.memory();
    std::int64_t count = 0;
    std::vector<float> absmax(static_cast<std::size_t>(x_.rows));
    copy_or_fail(memory, &count, count_, sizeof(count), CopyKind::to_host, context_.queue());
    copy_or_fail(memory, absmax.data(), absmax_, absmax.size() * sizeof(float), CopyKind::to_host,
                 context_.queue());
    std::vector<float> features(static_cast<std::size_t>(x_.rows * std::max(count, rules_.kept())));
    const auto check = [&](const std::int64_t* columns, std::int64_t features_count) {
      if (features_count == 0) return;
      const auto bytes = static_cast<std::size_t>(x_.rows * features_count) * sizeof(float);
      const std::shared_ptr<std::byte> room = allocate_on(memory, bytes);
      context_.kernels().gather_features({rows_of(x_, 0, x_.rows), columns, features_count, 0.0f,
                                          reinterpret_cast<float*>(room.get()), context_.queue()});
      copy_or_fail(memory, features.data(), room.get(), bytes, CopyKind::to_host, context_.queue());
      for (std::int64_t i = 0; i < x_.rows * features_count; ++i) {
        if (!std::isfinite(features[static_cast<std::size_t>(i)])) {
          absmax[static_cast<std::size_t>(i % x_.rows)] = std::numeric_limits<float>::infinity();
        }
      }
    };
    check(rules_.columns_at, rules_.kept());
    check(columns_, count);
    for (std::int64_t m = 0; m < x_.rows; ++m) {
      if (!std::isfinite(absmax[static_cast<std::size_t>(m)])) fail_not_finite(who_, m);
    }
  }

  const char* who_;
  Context& context_;
  Workspace& memory_;
  const GemmKernels& kernels_;
  const ActivationRules& rules_;
  const ConstAnyMatrix& x_;
  std::int64_t k_padded_;
  RowBlockTasks tasks_;

  std::int64_t outliers_ = 0;
  std::byte* codes_ = nullptr;
  std::byte* scratch_ = nullptr;
  float* absmax_ = nullptr;
  float* row_scale_ = nullptr;
  std::uint8_t* flags_ = nullptr;
  std::int64_t* columns_ = nullptr;
  std::int64_t* count_ = nullptr;
  float* range_ = nullptr;  ///< least and largest absmax
  std::int32_t* sums_ = nullptr;
  float* kept_x_ = nullptr;
  float* outlier_x_ = nullptr;
};

}  // namespace

Activations quantize_activations(const char* who, Context& context, Workspace& memory,
                                 const GemmKernels& kernels, const ActivationRules& rules,
                                 const ConstAnyMatrix& x) {
  if (rules.is_static()) return quantize_statically(who, context, memory, kernels, rules, x);
  if (rules.is_int15()) return quantize_int15(who, context, memory, kernels, rules, x);
  return Quantizer(who, context, memory, kernels, rules, x).run();
}

std::int64_t words_of_sums(const GemmKernels& kernels, std::int64_t m,
                           std::int64_t k_padded) noexcept {
  if (kernels.sums == ActivationSums::none) return 0;
  return m * sums_of_row(k_padded, kernels.sums) + kActivationSlack / 4;
}

void sum_codes(Context& context, const GemmKernels& kernels, const RowBlocks& blocks,
               std::byte* codes, std::int64_t k_padded, std::int32_t* sums) {
  if (kernels.sums == ActivationSums::none) return;
  parallel(context, blocks.count(), blocks.m * k_padded / 4,
           [&](std::int64_t begin, std::int64_t end) {
             context.kernels().sum_codes({.codes = codes,
                                          .blocks = blocks,
                                          .block_begin = begin,
                                          .block_end = end,
                                          .k_padded = k_padded,
                                          .kind = kernels.sums,
                                          .sums = sums});
           });
}

void fail_not_finite(const char* who, std::int64_t m) {
  fail(ErrorCode::not_finite,
       std::string(who) + ": row " + std::to_string(m) + " of x has NaN or Inf");
}

void check_finite(const char* who, const Activations& batch, std::int64_t kept) {
  for (std::int64_t m = 0; m < batch.m; ++m) {
    bool finite = std::isfinite(batch.absmax[m]);
    for (std::int64_t j = 0; j < kept; ++j) finite &= std::isfinite(batch.kept_x[j * batch.m + m]);
    for (std::int64_t j = 0; j < batch.outliers; ++j) {
      finite &= std::isfinite(batch.outlier_x[j * batch.m + m]);
    }
    if (!finite) fail_not_finite(who, m);
  }
}

Activations convert_activations(Context& context, Workspace& memory, const GemmKernels& kernels,
                                const ConstAnyMatrix& x) {
  const std::int64_t k_padded = kernels.layout.padded_k(x.cols);
  const RowBlockTasks tasks(context, kernels, x.rows, k_padded);
  const bool widened = kernels.activations == ActivationFormat::bf16_widened;
  const DType stored =
      kernels.activations == ActivationFormat::bf16 ? DType::bfloat16 : DType::float32;
  const std::int64_t size = element_bytes(kernels.activations);
  const std::int64_t half_bytes = widened ? align_up(x.cols * 2) : 0;
  Activations batch;
  batch.m = x.rows;
  batch.k = x.cols;
  batch.k_padded = k_padded;
  batch.x_dtype = x.dtype;
  batch.kernels = kernels;
  const std::int64_t task_bytes = half_bytes + tasks.scratch_bytes();
  std::byte* const data =
      memory.block(static_cast<std::size_t>(tasks.activation_bytes() + tasks.count * task_bytes));
  const KernelTable& table = context.kernels();
  batch.data = data;
  if (memory.memory() != nullptr) {  // plain rows, rounded once
    memory.memory()->fill(data, 0, static_cast<std::size_t>(tasks.activation_bytes()),
                          context.queue());
    const bool whole = x.stride == x.cols && x.cols == k_padded;
    for (std::int64_t r = 0; r < (whole ? 1 : x.rows); ++r) {
      table.convert({rows_of(x, r, 1).data, x.dtype, data + r * tasks.row_bytes, stored,
                     whole ? x.rows * x.cols : x.cols, context.queue()});
    }
    return batch;
  }
  parallel(context, tasks.count, x.rows * x.cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      std::byte* half = data + tasks.activation_bytes() + task * task_bytes;
      const auto write_rows = [&](std::int64_t first, std::int32_t rows, std::byte* plain,
                                  std::ptrdiff_t stride) {
        for (std::int32_t r = 0; r < rows; ++r) {
          const void* from = rows_of(x, first + r, 1).data;
          std::byte* row = plain + r * stride;
          if (widened) {
            table.convert({from, x.dtype, half, DType::bfloat16, x.cols});
            table.convert({half, DType::bfloat16, row, stored, x.cols});
          } else {
            table.convert({from, x.dtype, row, stored, x.cols});
          }
          std::fill(row + x.cols * size, row + tasks.row_bytes, std::byte{0});
        }
      };
      tasks.fill(task, half + half_bytes, data, write_rows);
    }
  });
  return batch;
}

std::vector<std::int64_t> find_outlier_columns(Context& context, const ConstAnyMatrix& x,
                                               float threshold) {
  const auto tasks = std::min<std::int64_t>(x.rows, context.executor().concurrency());
  std::vector<std::uint8_t> flags(
      static_cast<std::size_t>(std::max<std::int64_t>(tasks, 1) * x.cols));
  std::vector<float> absmax(static_cast<std::size_t>(x.rows));
  parallel(context, tasks, x.rows * x.cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = x.rows * task / tasks;
      context.kernels().quantize_rows(
          scan_of(rows_of(x, first, x.rows * (task + 1) / tasks - first), threshold,
                  absmax.data() + first, flags.data() + task * x.cols));
    }
  });
  std::vector<std::int64_t> columns(static_cast<std::size_t>(x.cols));
  std::int64_t count = 0;
  context.kernels().list_outliers({.flags = flags.data(),
                                   .tasks = std::max<std::int64_t>(tasks, 1),
                                   .cols = x.cols,
                                   .columns = columns.data(),
                                   .count = &count,
                                   .codes = nullptr,
                                   .format = ActivationFormat::s8,
                                   .blocks = {x.rows, 1},
                                   .k_padded = 0});
  columns.resize(static_cast<std::size_t>(count));
  return columns;
}

void prepare_memory(Workspace& memory, const Context& context) {
  if (memory.memory() != context.memory()) memory = Workspace(context.memory());
}

}  // namespace kvant::detail
