#include "kvant/packed_weights.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "formats/rules.hpp"
#include "kvant/context.hpp"
#include "kvant/isa.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

const PackedWeights::State& no_weights() noexcept {
  static const PackedWeights::State empty;
  return empty;
}

/// The block of a format, or the one asked for.
std::int64_t checked_block(const char* who, const WeightFormatInfo& info, std::int64_t wanted) {
  if (wanted == 0 || wanted == info.block) return info.block;
  if (info.block == 0 || wanted < 32 || wanted % 32 != 0 || wanted > (std::int64_t{1} << 20)) {
    fail(ErrorCode::invalid_argument, std::string(who) + ": " + std::string(info.name) +
                                          " in blocks of " + std::to_string(wanted) +
                                          (info.block == 0 ? "; the format has none to choose"
                                                           : "; multiples of 32 are possible"));
  }
  return wanted;
}

}  // namespace

PackedWeights PackedWeights::quantize(ConstAnyMatrix weights, WeightFormat format,
                                      const PackOptions& options) {
  return quantize(default_context(), weights, format, options);
}

PackedWeights PackedWeights::quantize(Context& context, ConstAnyMatrix weights, WeightFormat format,
                                      const PackOptions& options) {
  constexpr const char* kWho = "PackedWeights::quantize";
  return at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    check_float(kWho, "weights", weights);
    const FormatRules* rules = rules_of(format);
    if (rules == nullptr) {
      fail(ErrorCode::unsupported,
           std::string(kWho) + ": " + std::string(to_string(format)) + " weights are not packed");
    }
    const EncodeOptions encode{.block = checked_block(kWho, describe(format), options.block),
                               .bitsandbytes = options.arithmetic == Arithmetic::bitsandbytes};
    const std::int64_t n = weights.rows;
    const std::int64_t k = weights.cols;
    PackedWeightsBuilder builder(kWho, context.kernels(), format, n, k, encode.block);
    const State& state = builder.state();

    // Panel by panel: the only copy of the codes beside the packed ones is one panel per thread.
    const std::int64_t rows_at_once = std::max<std::int64_t>(state.layout().nr, 16);
    const std::int64_t blocks = (n + rows_at_once - 1) / rows_at_once;
    // + 64: rows of 4096 bytes would all fall into the same cache sets.
    const std::int64_t row_bytes = (k + 63) / 64 * 64 * state.element_bytes() + 64;
    const auto tasks = std::min<std::int64_t>(blocks, context.executor().concurrency());
    const std::int64_t task_bytes = rows_at_once * row_bytes;
    // The host's kernels quantize, whatever set multiplies: codes are the same on all.
    const bool on_host = context.memory() == nullptr;
    const KernelTable& table = on_host ? context.kernels() : kernels_for();
    Workspace scratch_of_its_own;
    Workspace& workspace = on_host ? context.workspace() : scratch_of_its_own;
    std::byte* scratch = workspace.block(static_cast<std::size_t>(tasks * task_bytes));
    const std::int64_t element = describe(weights.dtype).bits / 8;
    parallel(context, tasks, n * k, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        std::byte* codes = scratch + task * task_bytes;
        for (std::int64_t b = blocks * task / tasks; b < blocks * (task + 1) / tasks; ++b) {
          const std::int64_t first = b * rows_at_once;
          const std::int64_t rows = std::min(rows_at_once, n - first);
          const auto* data =
              static_cast<const std::byte*>(weights.data) + first * weights.stride * element;
          rules->encode(table, {data, weights.dtype, rows, k, weights.stride}, encode,
                        {.codes = codes,
                         .code_stride = row_bytes,
                         .scales = builder.scales() + first * state.row_scales(),
                         .absmax = builder.absmax() + first});
          builder.pack_rows(first, codes, rows, row_bytes);
        }
      }
    });
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

PackedWeights PackedWeights::from_codes(Context& context, MatrixView<const std::int8_t> codes,
                                        std::span<const float> absmax) {
  constexpr const char* kWho = "PackedWeights::from_codes";
  return at_border(kWho, [&] {
    check_readable(kWho, "codes", codes);
    const auto given = static_cast<std::int64_t>(absmax.size());
    if (given != 0 && given != codes.rows()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + std::to_string(given) +
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
    PackedWeightsBuilder builder(kWho, context.kernels(), WeightFormat::int8_row, codes.rows(),
                                 codes.cols(), 0);
    const State& state = builder.state();
    const std::int64_t nr = state.layout().nr;
    parallel(context, state.layout().panels(state.n), codes.size(),
             [&](std::int64_t begin, std::int64_t end) {
               const std::int64_t first = begin * nr;
               builder.pack_rows(first, reinterpret_cast<const std::byte*>(codes.row_data(first)),
                                 std::min(end * nr, state.n) - first, codes.stride());
             });
    if (given == 0) builder.drop_scales();
    for (std::size_t i = 0; i < absmax.size(); ++i) {
      builder.absmax()[i] = absmax[i];
      builder.scales()[i] = absmax[i] / 127.0f;
    }
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

/// The same weights for the context's kernels.
PackedWeights PackedWeights::repacked(Context& context, const PackedWeights& weights) {
  const auto on_host = State::on_host(weights.state_);
  const State& from = *on_host;
  PackedWeightsBuilder builder("PackedWeights::map", context.kernels(), from.format, from.n, from.k,
                               from.block);
  const State& to = builder.state();
  const std::int64_t nr = to.layout().nr;
  const std::int64_t row_bytes = from.k * from.element_bytes();
  std::vector<std::byte> rows(static_cast<std::size_t>(nr * row_bytes));
  for (std::int64_t first = 0; first < from.n; first += nr) {
    const std::int64_t count = std::min(nr, from.n - first);
    for (std::int64_t r = 0; r < count; ++r) {
      from.unpack_row(first + r, rows.data() + r * row_bytes);
    }
    builder.pack_rows(first, rows.data(), count, row_bytes);
  }
  if (from.scales.size() == 0) {
    if (!describe(from.format).is_float()) builder.drop_scales();
  } else {
    std::copy_n(from.scales.data(), from.n * from.row_scales(), builder.scales());
  }
  if (from.absmax.size() != 0) std::copy_n(from.absmax.data(), from.n, builder.absmax());
  return PackedWeights(State::placed(context, builder.finish()));
}

WeightFormat PackedWeights::format() const noexcept {
  return (state_ != nullptr ? *state_ : no_weights()).format;
}
std::int64_t PackedWeights::n() const noexcept {
  return state_ != nullptr ? state_->n : 0;
}
std::int64_t PackedWeights::k() const noexcept {
  return state_ != nullptr ? state_->k : 0;
}
std::int64_t PackedWeights::k_padded() const noexcept {
  return state_ != nullptr ? state_->k_padded : 0;
}
std::int64_t PackedWeights::block() const noexcept {
  return state_ != nullptr ? state_->block : 0;
}
std::int64_t PackedWeights::panels() const noexcept {
  return layout().panels(n());
}
const WeightLayout& PackedWeights::layout() const noexcept {
  return (state_ != nullptr ? *state_ : no_weights()).layout();
}
std::string_view PackedWeights::packed_for() const noexcept {
  return (state_ != nullptr ? *state_ : no_weights()).packed_for;
}
bool PackedWeights::fits(const KernelTable& kernels) const noexcept {
  return n() == 0 || (state_->memory == kernels.memory &&
                      state_->kernels.same_weights(kernels.gemm_for(state_->format)));
}
bool PackedWeights::is_mapped() const noexcept {
  return state_ != nullptr && state_->mapping != nullptr;
}

const std::byte* PackedWeights::data() const noexcept {
  return state_ != nullptr ? state_->codes.data() : nullptr;
}
const float* PackedWeights::scales() const noexcept {
  return state_ != nullptr ? state_->scales.data() : nullptr;
}
std::span<const float> PackedWeights::absmax() const noexcept {
  if (state_ == nullptr || state_->absmax.size() == 0) return {};
  return {state_->absmax.data(), static_cast<std::size_t>(state_->n)};
}
std::vector<float> PackedWeights::absmax_values() const {
  if (absmax().empty()) return {};
  const auto on_host = State::on_host(state_);
  return {on_host->absmax.data(), on_host->absmax.data() + on_host->n};
}
const std::int32_t* PackedWeights::offsets() const noexcept {
  return state_ != nullptr ? state_->offsets.data() : nullptr;
}
ResidualLists PackedWeights::residuals() const noexcept {
  return state_ != nullptr ? state_->lists() : ResidualLists{nullptr, nullptr, nullptr};
}

namespace {

void check_rows(const char* who, const PackedWeights& w, std::int64_t first, std::int64_t rows,
                std::int64_t cols) {
  if (cols != w.k()) {
    fail(ErrorCode::shape_mismatch, std::string(who) + ": " + std::to_string(cols) +
                                        " columns for weights " + shape_text(w.n(), w.k()));
  }
  if (first < 0 || rows > w.n() || first > w.n() - rows) {
    fail(ErrorCode::out_of_range, std::string(who) + ": rows " + std::to_string(first) + " to " +
                                      std::to_string(first) + " + " + std::to_string(rows) +
                                      " of " + std::to_string(w.n()));
  }
}

}  // namespace

void PackedWeights::unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const {
  constexpr const char* kWho = "PackedWeights::unpack_rows";
  check_writable(kWho, "codes", codes);
  check_rows(kWho, *this, first, codes.rows(), codes.cols());
  if (codes.empty()) return;
  if (describe(format()).codes != DType::int8) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are " +
                                     std::string(to_string(format())) + ", not int8 codes");
  }
  const auto on_host = State::on_host(state_);
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    on_host->unpack_row(first + r, reinterpret_cast<std::byte*>(codes.row_data(r)));
  }
}

void PackedWeights::dequantize(AnyMatrix w, std::int64_t first) const {
  constexpr const char* kWho = "PackedWeights::dequantize";
  at_border(kWho, [&] {
    check_float(kWho, "w", w);
    check_writable(kWho, "w", w);
    check_rows(kWho, *this, first, w.rows, w.cols);
    if (w.rows == 0 || w.cols == 0) return;
    if (!describe(format()).is_float() && scales() == nullptr) {
      fail(ErrorCode::invalid_argument,
           std::string(kWho) + ": the weights are codes alone; pack them with their absmax");
    }
    const FormatRules& rules = *rules_of(format());
    const auto on_host = State::on_host(state_);
    std::vector<std::byte> codes(static_cast<std::size_t>(state_->k * state_->element_bytes()));
    std::vector<float> values(static_cast<std::size_t>(state_->k));
    for (std::int64_t r = 0; r < w.rows; ++r) {
      on_host->unpack_row(first + r, codes.data());
      rules.decode(codes.data(), on_host->scales.data() + (first + r) * state_->row_scales(),
                   state_->k, state_->block, values.data());
      for (std::int64_t k = 0; k < state_->k; ++k) {
        store_float(w, r, k, values[static_cast<std::size_t>(k)]);
      }
    }
  });
}

std::size_t PackedWeights::bytes() const noexcept {
  if (state_ == nullptr) return 0;
  const State& s = *state_;
  return s.codes.bytes() + s.scales.bytes() + s.absmax.bytes() + s.offsets.bytes() +
         s.residual_begin.bytes() + s.residuals.bytes() + s.unlimited.bytes();
}

std::size_t PackedWeights::stored_bytes() const noexcept {
  const WeightFormatInfo& info = describe(format());
  const std::int64_t scale_bytes = describe(info.scale).bits / 8;
  return static_cast<std::size_t>(n() * k() * info.bits / 8 +
                                  info.scales(n(), k(), block()) * scale_bytes);
}

}  // namespace kvant
