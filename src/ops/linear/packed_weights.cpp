#include "kvant/packed_weights.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/context.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/float8.hpp"
#include "kvant/float_element.hpp"
#include "kvant/isa.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/arena.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
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

void check_zero_points(const char* who, const WeightFormatInfo& info, bool wanted) {
  if (!wanted || info.zero_points) return;
  fail(ErrorCode::invalid_argument,
       std::string(who) + ": " + std::string(info.name) + " has no zero points");
}

/// value as it comes back from the type of a format's scales.
float as_stored(const WeightFormatInfo& info, float value) noexcept {
  if (info.scale != DType::float8_e8m0fnu) return round_to(info.scale, value);
  return static_cast<float>(float8_e8m0fnu(value));
}

/// The codes of CodedWeights, which kernels do not look at again.
void check_codes(const char* who, const CodedWeights& w) {
  const WeightFormatInfo& info = describe(w.format);
  const auto wrong = [&](std::int64_t row, const std::string& what) {
    fail(ErrorCode::invalid_argument,
         std::string(who) + ": row " + std::to_string(row) + " has " + what);
  };
  const unsigned highest = (1u << info.bits) - 1;
  for (std::int64_t r = 0; r < w.codes.rows(); ++r) {
    const std::uint8_t* row = w.codes.row_data(r);
    if (info.bits <= 4) {
      std::uint8_t bits = 0;
      for (std::int64_t c = 0; c < w.codes.cols(); ++c) bits |= row[c];
      if (bits > highest) {
        wrong(r, "a code beyond " + std::to_string(highest) + ", the largest of " +
                     std::to_string(info.bits) + " bits");
      }
    } else if (info.codes == DType::float8_e4m3fn) {
      const auto is_nan = [](std::uint8_t bits) { return (bits & 0x7F) == 0x7F; };
      if (std::any_of(row, row + w.codes.cols(), is_nan)) wrong(r, "an element that is NaN");
    }
  }
}

/// Their scales and zero points.
void check_coded(const char* who, const CodedWeights& w, std::int64_t scales) {
  const WeightFormatInfo& info = describe(w.format);
  const auto wrong = [&](ErrorCode code, const std::string& what) {
    fail(code, std::string(who) + ": " + what);
  };
  const auto count = static_cast<std::int64_t>(w.scales.size());
  const auto zeros = static_cast<std::int64_t>(w.zero_points.size());
  if (count != scales || (zeros != 0 && zeros != scales)) {
    wrong(ErrorCode::shape_mismatch,
          std::to_string(count) + " scales and " + std::to_string(zeros) + " zero points for " +
              std::to_string(scales) + " blocks of " + shape_text(w.codes.rows(), w.codes.cols()));
  }
  if (zeros != 0) check_zero_points(who, info, true);
  check_codes(who, w);
  for (std::size_t i = 0; i < w.scales.size(); ++i) {
    const bool negative = info.format == WeightFormat::int8_row && w.scales[i] < 0.0f;
    if (!std::isfinite(w.scales[i]) || negative) {
      wrong(ErrorCode::invalid_argument,
            "scale " + std::to_string(i) + " is " + std::to_string(w.scales[i]));
    }
    if (as_stored(info, w.scales[i]) != w.scales[i]) {
      wrong(ErrorCode::invalid_argument,
            "scale " + std::to_string(i) + " is " + number_text(w.scales[i]) + ", which " +
                std::string(info.scale == DType::float16 ? "fp16" : to_string(info.scale)) +
                " does not hold exactly");
    }
  }
  const int most = 1 << info.bits;
  for (std::size_t i = 0; i < w.zero_points.size(); ++i) {
    if (w.zero_points[i] > most) {
      wrong(ErrorCode::invalid_argument, "zero point " + std::to_string(i) + " is " +
                                             std::to_string(w.zero_points[i]) + ", not 0 to " +
                                             std::to_string(most));
    }
  }
}

/// Of fp8 with one scale for the whole weight.
float absmax_of(const KernelTable& kernels, const FloatRows& x) noexcept {
  BlockRange range;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    range.add_row(kernels, x, r, 0, x.cols);
  }
  return range.finite ? range.absmax() : std::numeric_limits<float>::quiet_NaN();
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
    if (rules == nullptr || rules->encode == nullptr) {
      fail(ErrorCode::unsupported, std::string(kWho) + ": " + std::string(to_string(format)) +
                                       " weights are not made of floats here; they come in the "
                                       "blocks of GGUF files (from_blocks)");
    }
    const WeightFormatInfo& info = describe(format);
    check_zero_points(kWho, info, options.zero_points.value_or(false));
    const auto only_for = [&](const char* what, const char* formats) {
      fail(ErrorCode::invalid_argument, std::string(kWho) + ": " + what + " for " + formats +
                                            ", not for " + std::string(info.name));
    };
    if (options.one_scale && format != WeightFormat::fp8_row) {
      only_for("one scale for the whole weight is", "fp8");
    }
    if (options.nested_absmax && !info.nested) only_for("nested absmax are", "nf4 and fp4");
    EncodeOptions encode{.block = checked_block(kWho, info, options.block),
                         .bitsandbytes = options.arithmetic == Arithmetic::bitsandbytes,
                         .zero_points = options.zero_points.value_or(info.zero_points),
                         .one_scale = options.one_scale,
                         .scale_type = options.scale_type};
    const std::int64_t n = weights.rows;
    const std::int64_t k = weights.cols;
    PackedWeightsBuilder builder(kWho, context.kernels(), format, n, k, encode.block,
                                 encode.zero_points || info.needs_zero_points());
    const State& state = builder.state();
    // Panel by panel (small ones together): the only other codes are those of each thread. (Rows
    // that share scales are encoded together.)
    const std::int64_t together = std::lcm(std::int64_t{state.layout().nr}, info.block_rows);
    const std::int64_t rows_at_once = (16 + together - 1) / together * together;
    const std::int64_t blocks = (n + rows_at_once - 1) / rows_at_once;
    // + 64: rows of 4096 bytes would all fall into the same cache sets.
    const std::int64_t row_bytes = (k + 63) / 64 * 64 * state.element_bytes() + 64;
    const auto tasks = std::min<std::int64_t>(blocks, context.executor().concurrency());
    const std::int64_t row_scales = state.row_scales();
    const std::int64_t codes_bytes = align_up(rows_at_once * row_bytes);
    const std::int64_t scales_bytes = align_up(rows_at_once * row_scales * 4);
    const std::int64_t task_bytes =
        codes_bytes + scales_bytes + align_up(rows_at_once * row_scales);
    // The host's kernels quantize, whatever set multiplies: codes are the same on all.
    const bool on_host = context.memory() == nullptr;
    const KernelTable& table = on_host ? context.kernels() : kernels_for();
    Workspace scratch_of_its_own;
    Workspace& workspace = on_host ? context.workspace() : scratch_of_its_own;
    std::byte* scratch = workspace.block(static_cast<std::size_t>(tasks * task_bytes));
    const FloatRows whole = {weights.data, weights.dtype, n, k, weights.stride};
    float* const absmax = builder.absmax();
    if (encode.one_scale) encode.given_absmax = absmax_of(table, whole);
    parallel(context, tasks, n * k, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        std::byte* const codes = scratch + task * task_bytes;
        auto* const scales = reinterpret_cast<float*>(codes + codes_bytes);
        auto* const zeros = reinterpret_cast<std::uint8_t*>(codes + codes_bytes + scales_bytes);
        for (std::int64_t b = blocks * task / tasks; b < blocks * (task + 1) / tasks; ++b) {
          const std::int64_t first = b * rows_at_once;
          const std::int64_t rows = std::min(rows_at_once, n - first);
          rules->encode(table, whole, first, rows, encode,
                        {.codes = codes,
                         .code_stride = row_bytes,
                         .scales = scales,
                         .zeros = zeros,
                         .absmax = absmax == nullptr ? nullptr : absmax + first});
          builder.pack_rows(first, codes, rows, row_bytes);
          for (std::int64_t r = 0; r < rows && row_scales > 0; ++r) {
            builder.set_scales(first + r, scales + r * row_scales, zeros + r * row_scales);
          }
        }
      }
    });
    if (options.nested_absmax) builder.nest_absmax();
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
      const float scale = absmax[i] / 127.0f;
      builder.absmax()[i] = absmax[i];
      builder.set_scales(static_cast<std::int64_t>(i), &scale, nullptr);
    }
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

PackedWeights PackedWeights::from_codes(Context& context, const CodedWeights& weights) {
  constexpr const char* kWho = "PackedWeights::from_codes";
  return at_border(kWho, [&] {
    check_readable(kWho, "codes", weights.codes);
    const WeightFormatInfo& info = describe(weights.format);
    if (info.is_float() || info.is_gguf()) {
      fail(ErrorCode::unsupported, std::string(kWho) + ": " + std::string(info.name) +
                                       (info.is_gguf() ? " weights come in blocks (from_blocks)"
                                                       : " weights have no codes"));
    }
    const std::int64_t n = weights.codes.rows();
    const std::int64_t k = weights.codes.cols();
    const std::int64_t block = checked_block(kWho, info, weights.block);
    check_coded(kWho, weights, info.scales(n, k, block));
    const bool given_zeros = !weights.zero_points.empty();
    PackedWeightsBuilder builder(kWho, context.kernels(), weights.format, n, k, block,
                                 given_zeros || info.needs_zero_points());
    const State& state = builder.state();
    const std::int64_t nr = state.layout().nr;
    const auto first_scale = [&](std::int64_t row) {
      return info.axis == BlockAxis::flattened ? row * k / block : row * state.row_scales();
    };
    // The blocks may end before the room that the last rows have for them.
    std::vector<float> scales(weights.scales.size() + static_cast<std::size_t>(state.row_scales()));
    std::copy(weights.scales.begin(), weights.scales.end(), scales.begin());
    const std::vector<std::uint8_t> middle(static_cast<std::size_t>(state.row_scales()),
                                           static_cast<std::uint8_t>(1u << (info.bits - 1)));
    parallel(context, state.layout().panels(n), n * k, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t first = begin * nr;
      const std::int64_t rows = std::min(end * nr, n) - first;
      builder.pack_rows(first, reinterpret_cast<const std::byte*>(weights.codes.row_data(first)),
                        rows, weights.codes.stride());
      for (std::int64_t r = first; r < first + rows && k > 0; ++r) {
        const std::int64_t at = first_scale(r);
        builder.set_scales(r, scales.data() + at,
                           given_zeros ? weights.zero_points.data() + at : middle.data());
        if (builder.absmax() != nullptr) {
          builder.absmax()[r] = scales[static_cast<std::size_t>(at)] * 127.0f;
        }
      }
    });
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

/// The same weights for the context's kernels.
PackedWeights PackedWeights::repacked(Context& context, const PackedWeights& weights) {
  const auto on_host = State::on_host(weights.state_);
  const State& from = *on_host;
  PackedWeightsBuilder builder("PackedWeights::map", context.kernels(), from.format, from.n, from.k,
                               from.block, from.zero_points, from.wide_scales);
  const State& to = builder.state();
  const std::int64_t nr = to.layout().nr;
  const std::int64_t row_bytes = from.row_bytes();
  std::vector<std::byte> rows(static_cast<std::size_t>(nr * row_bytes));
  std::vector<float> scales(static_cast<std::size_t>(from.row_scales()));
  std::vector<std::uint8_t> zeros(scales.size());
  const bool has_scales = from.has_scales() && !scales.empty();
  if (!has_scales && !describe(from.format).is_float()) builder.drop_scales();
  for (std::int64_t first = 0; first < from.n; first += nr) {
    const std::int64_t count = std::min(nr, from.n - first);
    for (std::int64_t r = 0; r < count; ++r) {
      from.unpack_row(first + r, rows.data() + r * row_bytes);
    }
    builder.pack_rows(first, rows.data(), count, row_bytes);
    for (std::int64_t r = first; r < first + count && has_scales; ++r) {
      from.unpack_scales(r, scales.data(), zeros.data());
      builder.set_scales(r, scales.data(), zeros.data());
    }
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
bool PackedWeights::has_zero_points() const noexcept {
  return state_ != nullptr && state_->zero_points;
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
  return n() == 0 ||
         (state_->memory == kernels.memory && state_->lie_for(kernels.gemm_for(state_->format)));
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

std::size_t PackedWeights::bytes() const noexcept {
  if (state_ == nullptr) return 0;
  const State& s = *state_;
  return s.codes.bytes() + s.scales.bytes() + s.absmax.bytes() + s.offsets.bytes();
}

std::size_t PackedWeights::stored_bytes() const noexcept {
  const WeightFormatInfo& info = describe(format());
  if (info.is_gguf()) {
    return static_cast<std::size_t>(n() * (k() / info.gguf_elements) * info.gguf_bytes);
  }
  const std::int64_t scale_bytes = describe(info.scale).bits / 8;
  const std::int64_t scale_rows = (n() + info.block_rows - 1) / info.block_rows;
  return static_cast<std::size_t>((n() * k() * info.bits + 7) / 8 +
                                  info.scales(scale_rows, k(), block()) * scale_bytes);
}

}  // namespace kvant
