#include "ops/ranks/gather_activations.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "ops/linear/linear_state.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/linear/row_blocks.hpp"
#include "ops/support/arena.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

/// One batch on its way from the ranks' columns to whole rows.
class Gatherer {
 public:
  Gatherer(Context& context, Ranks& ranks, const Linear& layer, MatrixView<const float> x,
           const std::vector<std::int64_t>& widths)
      : context_(context),
        ranks_(ranks),
        kernels_(
            multiplying_kernels(context.kernels(), layer.weights(), layer.options().arithmetic)),
        x_(x),
        widths_(widths),
        m_(x.rows()),
        k_(std::accumulate(widths.begin(), widths.end(), std::int64_t{0})),
        first_(std::accumulate(widths.begin(), widths.begin() + ranks.rank(), std::int64_t{0})) {
    state_.rules = ActivationRules::of("RowParallelLinear", layer.options(), k_);
  }

  GatheredActivations run() {
    scan();
    exchange_scan();
    quantize();
    exchange_codes();
    assemble();
    if (rules().options.check_finite) {
      check_finite("RowParallelLinear::forward", state_.batch, rules().kept());
    }
    return std::move(state_);
  }

 private:
  [[nodiscard]] const ActivationRules& rules() const noexcept { return *state_.rules; }
  [[nodiscard]] std::int64_t width() const noexcept { return x_.cols(); }
  static std::size_t size_of(std::int64_t count) noexcept {
    return static_cast<std::size_t>(count);
  }

  /// Rows [first, first + rows) of this rank's columns.
  [[nodiscard]] QuantizeRowsArgs rows_args(std::int64_t first, std::int64_t rows) noexcept {
    QuantizeRowsArgs args{};
    args.x = FloatRows{x_.data(), DType::float32, m_, width(), x_.stride()}.slice(first, rows);
    args.bitsandbytes = rules().is_bitsandbytes();
    args.threshold = rules().search_threshold();
    args.keep_mask = rules().mask_at == nullptr ? nullptr : rules().mask_at + first_;
    args.format = ActivationFormat::s8;
    args.absmax = absmax_.data() + first;
    args.outlier_columns = rules().ignores_outliers() ? nullptr : flags_.data();
    return args;
  }

  /// absmax of this rank's part of each row, and its outlier columns.
  void scan() {
    absmax_.assign(size_of(m_), 0.0f);
    flags_.assign(size_of(width()), 0);
    if (width() > 0) context_.kernels().quantize_rows(rows_args(0, m_));
  }

  /// absmax_ of whole rows, outliers_ of all columns.
  void exchange_scan() {
    std::vector<std::int64_t> sizes;
    for (const std::int64_t each : widths_) sizes.push_back(m_ * kFloat + (each + 7) / 8);
    std::vector<std::byte> mine(size_of(m_ * kFloat + (width() + 7) / 8));
    std::memcpy(mine.data(), absmax_.data(), absmax_.size() * sizeof(float));
    for (std::size_t c = 0; c < flags_.size(); ++c) {
      if (flags_[c] != 0) mine[size_of(m_ * kFloat) + c / 8] |= std::byte{1} << (c % 8);
    }
    std::vector<std::byte> all(
        size_of(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0})));
    ranks_.all_gather(mine, sizes, all.data());
    std::fill(absmax_.begin(), absmax_.end(), 0.0f);
    std::vector<float> others(absmax_.size());
    const std::byte* from = all.data();
    std::int64_t first = 0;
    for (const std::int64_t each : widths_) {
      std::memcpy(others.data(), from, others.size() * sizeof(float));
      for (std::size_t r = 0; r < others.size(); ++r) {
        // A NaN anywhere is the row's.
        if (!(others[r] <= absmax_[r]) && !std::isnan(absmax_[r])) absmax_[r] = others[r];
      }
      from += m_ * kFloat;
      for (std::int64_t c = 0; c < each; ++c) {
        if ((from[c / 8] >> (c % 8) & std::byte{1}) != std::byte{0}) outliers_.push_back(first + c);
      }
      from += (each + 7) / 8;
      first += each;
    }
  }

  /// Of an ascending list of columns, those of the rank whose columns begin at `first`.
  static Share part_of(std::span<const std::int64_t> columns, std::int64_t first,
                       std::int64_t width) {
    const auto begin = std::lower_bound(columns.begin(), columns.end(), first);
    const auto end = std::lower_bound(begin, columns.end(), first + width);
    return {begin - columns.begin(), end - columns.begin()};
  }

  /// What a rank sends: codes, kept activations, outlier activations.
  [[nodiscard]] std::int64_t part_bytes(std::int64_t first, std::int64_t width) const {
    return m_ * width + m_ * kFloat *
                            (part_of(rules().keep_columns, first, width).size() +
                             part_of(outliers_, first, width).size());
  }

  /// mine_: this rank's codes with the rows' absmax, and its features' activations.
  void quantize() {
    mine_.assign(size_of(part_bytes(first_, width())), std::byte{0});
    if (width() == 0) return;
    const std::int64_t padded = kernels_.layout.padded_k(width());
    std::vector<std::int8_t> row(size_of(padded));
    auto* codes = reinterpret_cast<std::int8_t*>(mine_.data());
    const Share found = part_of(outliers_, first_, width());
    float unused = 0;
    for (std::int64_t r = 0; r < m_; ++r, codes += width()) {
      QuantizeRowsArgs args = rows_args(r, 1);
      args.given_absmax = absmax_.data() + r;
      args.absmax = &unused;
      args.codes = row.data();
      args.code_stride = padded;
      args.k_padded = padded;
      context_.kernels().quantize_rows(args);
      std::memcpy(codes, row.data(), size_of(width()));
      if (!rules().whole_columns()) continue;
      for (std::int64_t j = found.begin; j < found.end; ++j) {
        codes[outliers_[size_of(j)] - first_] = 0;
      }
    }
    std::byte* to = mine_.data() + m_ * width();
    to = gather_features(rules().keep_columns, 0.0f, to);
    gather_features(outliers_, rules().outlier_threshold(), to);
  }

  /// [features of this rank, m] from `to` on. @return their end
  std::byte* gather_features(std::span<const std::int64_t> columns, float threshold,
                             std::byte* to) {
    const Share part = part_of(columns, first_, width());
    if (part.size() == 0) return to;
    std::vector<std::int64_t> own(columns.begin() + part.begin, columns.begin() + part.end);
    for (std::int64_t& column : own) column -= first_;
    std::vector<float> values(size_of(part.size() * m_));
    context_.kernels().gather_features(
        {FloatRows{x_.data(), DType::float32, m_, width(), x_.stride()}, own.data(), part.size(),
         threshold, values.data()});
    std::memcpy(to, values.data(), values.size() * sizeof(float));
    return to + values.size() * sizeof(float);
  }

  void exchange_codes() {
    std::vector<std::int64_t> sizes;
    std::int64_t first = 0;
    for (const std::int64_t each : widths_) {
      sizes.push_back(part_bytes(first, each));
      first += each;
    }
    all_.resize(size_of(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0})));
    ranks_.all_gather(mine_, sizes, all_.data());
  }

  /// The parts of all ranks into the kernels' order.
  void assemble() {
    const std::int64_t k_padded = kernels_.layout.padded_k(k_);
    const RowBlockTasks tasks(context_, kernels_, m_, k_padded);
    prepare_memory(state_.memory, context_);
    std::byte* codes = nullptr;
    std::byte* scratch = nullptr;
    float* absmax = nullptr;
    float* row_scale = nullptr;
    std::int32_t* sums = nullptr;
    std::int64_t* columns = nullptr;
    carve(state_.memory, 0, [&](Arena& arena) {
      codes = arena.take<std::byte>(tasks.activation_bytes());
      scratch = arena.take<std::byte>(tasks.count * tasks.scratch_bytes());
      absmax = arena.take<float>(m_);
      row_scale = arena.take<float>(m_);
      columns = arena.take<std::int64_t>(std::ssize(outliers_));
      sums = arena.take<std::int32_t>(words_of_sums(kernels_, m_, k_padded));
    });
    float* kept_x = nullptr;
    float* outlier_x = nullptr;
    carve(state_.memory, 1, [&](Arena& arena) {
      kept_x = arena.take<float>(m_ * rules().kept());
      outlier_x = arena.take<float>(m_ * std::ssize(outliers_));
    });
    std::copy(absmax_.begin(), absmax_.end(), absmax);
    for (std::int64_t r = 0; r < m_; ++r) {
      row_scale[r] = rules().is_bitsandbytes() ? absmax[r] : absmax[r] / 127.0f;
    }
    std::copy(outliers_.begin(), outliers_.end(), columns);
    std::vector<const std::int8_t*> parts;  // codes of each rank
    spread_features(kept_x, outlier_x, parts);
    parallel(context_, tasks.count, m_ * k_, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        tasks.fill(
            task, scratch + task * tasks.scratch_bytes(), codes,
            [&](std::int64_t first, std::int32_t rows, std::byte* plain, std::ptrdiff_t stride) {
              for (std::int32_t r = 0; r < rows; ++r) {
                std::byte* to = plain + r * stride;
                for (std::size_t i = 0; i < parts.size(); ++i) {
                  store_codes(kernels_.activations, parts[i] + (first + r) * widths_[i], widths_[i],
                              to);
                  to += widths_[i];
                }
                store_zeros(kernels_.activations, k_padded - k_, to);
              }
            });
      }
    });
    sum_codes(context_, kernels_, tasks.blocks, codes, k_padded, sums);
    state_.batch = {.m = m_,
                    .k = k_,
                    .k_padded = k_padded,
                    .x_dtype = DType::float32,
                    .kernels = kernels_,
                    .data = codes,
                    .absmax = absmax,
                    .row_scale = row_scale,
                    .sums = sums,
                    .kept_x = kept_x,
                    .outliers = std::ssize(outliers_),
                    .columns = columns,
                    .outlier_x = outlier_x};
  }

  /// Features ascend from rank to rank, so that the parts follow each other.
  void spread_features(float* kept_x, float* outlier_x, std::vector<const std::int8_t*>& parts) {
    const std::byte* from = all_.data();
    std::int64_t first = 0;
    for (const std::int64_t each : widths_) {
      parts.push_back(reinterpret_cast<const std::int8_t*>(from));
      from += m_ * each;
      for (const auto& [columns, to] :
           {std::pair(std::span<const std::int64_t>(rules().keep_columns), &kept_x),
            {std::span<const std::int64_t>(outliers_), &outlier_x}}) {
        const std::int64_t count = part_of(columns, first, each).size() * m_;
        if (count > 0) std::memcpy(*to, from, size_of(count) * sizeof(float));
        *to += count;
        from += count * kFloat;
      }
      first += each;
    }
  }

  Context& context_;
  Ranks& ranks_;
  const GemmKernels& kernels_;
  MatrixView<const float> x_;
  const std::vector<std::int64_t>& widths_;
  std::int64_t m_;
  std::int64_t k_;
  std::int64_t first_;  ///< of this rank's columns
  GatheredActivations state_;
  std::vector<float> absmax_;
  std::vector<std::uint8_t> flags_;
  std::vector<std::int64_t> outliers_;  ///< columns of the whole x, ascending
  std::vector<std::byte> mine_;
  std::vector<std::byte> all_;
};

}  // namespace

bool takes_codes(const Linear& layer) noexcept {
  const PackedWeights& weights = layer.weights();
  const ActivationOptions& options = layer.options();
  if (options.activation_scale != ActivationScale::per_row) return false;
  if (options.static_params != nullptr || options.arithmetic == Arithmetic::int15) return false;
  if (weights.n() > 0) return multiplied_as_integers(weights, options.arithmetic);
  return multiplies_integers(weights.format(), options.arithmetic) &&
         !describe(weights.format()).is_float();
}

GatheredActivations gather_activations(Context& context, Ranks& ranks, const Linear& layer,
                                       MatrixView<const float> x,
                                       const std::vector<std::int64_t>& widths) {
  constexpr const char* kWho = "RowParallelLinear::forward";
  return at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    return Gatherer(context, ranks, layer, x, widths).run();
  });
}

}  // namespace kvant::detail
