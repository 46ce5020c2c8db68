// Packed weights row by row, as they were before packing: codes, scales, real values.

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "formats/rules.hpp"
#include "kvant/float_element.hpp"
#include "kvant/parallel_tasks.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

void PackedWeights::State::unpack_row(std::int64_t row, std::byte* to) const noexcept {
  if (is_groups()) {
    return describe(format).is_gguf() ? unpack_blocks(row, to) : unpack_group_codes(row, to);
  }
  if (is_nibbles()) {
    const NibblePanels w = nibbles();
    const std::byte* const panel = codes.data() + row / w.nr * w.panel_bytes();
    for (std::int64_t i = 0; i < k; ++i) {
      to[i] = (panel[w.code_at(row % w.nr, i)] >> w.shift_at(i)) & std::byte{15};
    }
    return;
  }
  const std::int64_t size = element_bytes();
  const std::int64_t nr = layout().nr;
  const std::int64_t step = layout().kr * size;
  const std::byte* from = codes.data() + layout().offset(row, 0, k_padded) * size;
  const std::int64_t row_bytes = k * size;
  const std::int64_t together = nr == 1 ? row_bytes : step;  // plain rows are in order already
  for (std::int64_t byte = 0; byte < row_bytes; byte += together) {
    std::memcpy(to + byte, from + byte * nr,
                static_cast<std::size_t>(std::min(together, row_bytes - byte)));
  }
}

void PackedWeights::State::unpack_scales(std::int64_t row, float* to_scales,
                                         std::uint8_t* to_zeros) const noexcept {
  if (is_groups()) return unpack_group_scales(row, to_scales);
  if (!has_inline_scales()) {
    std::copy_n(scales.data() + row * row_scales(), row_scales(), to_scales);
    return;
  }
  const WeightFormatInfo& info = describe(format);
  const NibblePanels w = nibbles();
  const std::byte* const panel = codes.data() + row / w.nr * w.panel_bytes();
  const std::int64_t phase = phase_of(info, row, k, block);
  for (std::int64_t b = 0, at = 0; at < k; ++b) {
    to_scales[b] = load_element(panel + w.scale_at(row % w.nr, at), info.scale, 0);
    if (zero_points) to_zeros[b] = std::to_integer<std::uint8_t>(panel[w.zero_at(row % w.nr, at)]);
    at = block == 0 ? k : (b + 1) * block - phase;
  }
}

std::int64_t PackedWeights::State::decode_scratch() const noexcept {
  return row_bytes() + (row_scales() + 1) * 5 + 64;
}

void PackedWeights::State::decode_row(std::int64_t row, std::byte* scratch,
                                      float* to) const noexcept {
  auto* const own_scales = reinterpret_cast<float*>(scratch);
  auto* const own_zeros = reinterpret_cast<std::uint8_t*>(own_scales + row_scales());
  auto* const row_codes = reinterpret_cast<std::byte*>(own_zeros + row_scales());
  unpack_row(row, row_codes);
  RowScales row_of = {own_scales, zero_points ? own_zeros : nullptr, block,
                      phase_of(describe(format), row, k, block)};
  if (has_inline_scales()) {
    unpack_scales(row, own_scales, own_zeros);
  } else {
    row_of.scales = scales.data() + row * row_scales();
  }
  rules_of(format)->decode(row_codes, row_of, k, to);
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

/// Rows of codes are there to be unpacked; false: none are asked for.
template <class Code>
bool check_codes(const PackedWeights& w, std::int64_t first, const MatrixView<Code>& codes) {
  constexpr const char* kWho = "PackedWeights::unpack_rows";
  check_writable(kWho, "codes", codes);
  check_rows(kWho, w, first, codes.rows(), codes.cols());
  if (codes.empty()) return false;
  const WeightFormatInfo& info = describe(w.format());
  const bool is_signed = std::is_signed_v<Code>;
  if (info.is_float() || info.is_gguf() || (info.codes == DType::int8) != is_signed) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are " +
                                     std::string(to_string(w.format())) + ", not codes of " +
                                     (is_signed ? "int8" : "uint8"));
  }
  return true;
}

template <class Code>
void unpack_codes(const PackedWeights::State& state, std::int64_t first, MatrixView<Code> codes) {
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    state.unpack_row(first + r, reinterpret_cast<std::byte*>(codes.row_data(r)));
  }
}

}  // namespace

void PackedWeights::unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const {
  if (check_codes(*this, first, codes)) {
    unpack_codes(*State::on_host(state_), first, codes);
  }
}

void PackedWeights::unpack_rows(std::int64_t first, MatrixView<std::uint8_t> codes) const {
  if (check_codes(*this, first, codes)) {
    unpack_codes(*State::on_host(state_), first, codes);
  }
}

void PackedWeights::unpack_scales(std::int64_t row, std::vector<float>& to_scales,
                                  std::vector<std::uint8_t>& to_zeros) const {
  constexpr const char* kWho = "PackedWeights::unpack_scales";
  check_rows(kWho, *this, row, 1, k());
  const auto on_host = State::on_host(state_);
  std::int64_t count = on_host->has_scales() ? on_host->row_scales() : 0;
  to_scales.assign(static_cast<std::size_t>(count), 0.0f);
  to_zeros.assign(to_scales.size(), 0);
  if (count > 0) on_host->unpack_scales(row, to_scales.data(), to_zeros.data());
  const WeightFormatInfo& info = describe(format());
  if (count > 0 && info.axis == BlockAxis::flattened) {
    // A row that begins where a block does has one block less than the most there may be.
    count = (phase_of(info, row, k(), block()) + k() + block() - 1) / block();
    to_scales.resize(static_cast<std::size_t>(count));
  }
  if (!has_zero_points()) to_zeros.clear();
}

namespace {

void check_decodable(const char* who, const PackedWeights& weights) {
  if (describe(weights.format()).is_float() || weights.state().has_scales()) return;
  fail(ErrorCode::invalid_argument,
       std::string(who) + ": the weights are codes alone; pack them with their absmax");
}

/// The outputs row(begin) to row(end - 1) into the rows of w with these numbers.
template <class Row>
void decode_rows(const PackedWeights::State& on_host, std::int64_t begin, std::int64_t end,
                 const AnyMatrix& w, Row&& row) {
  AlignedArray<std::byte> scratch(static_cast<std::size_t>(on_host.decode_scratch()));
  std::vector<float> values(static_cast<std::size_t>(on_host.k));
  for (std::int64_t r = begin; r < end; ++r) {
    on_host.decode_row(row(r), scratch.data(), values.data());
    for (std::int64_t k = 0; k < on_host.k; ++k) {
      store_float(w, r, k, values[static_cast<std::size_t>(k)]);
    }
  }
}

}  // namespace

void PackedWeights::dequantize(AnyMatrix w, std::int64_t first) const {
  constexpr const char* kWho = "PackedWeights::dequantize";
  at_border(kWho, [&] {
    check_float(kWho, "w", w);
    check_writable(kWho, "w", w);
    check_rows(kWho, *this, first, w.rows, w.cols);
    if (w.rows == 0 || w.cols == 0) return;
    check_decodable(kWho, *this);
    decode_rows(*State::on_host(state_), 0, w.rows, w, [&](std::int64_t r) { return first + r; });
  });
}

void PackedWeights::dequantize_rows(Context& context, std::span<const std::int64_t> rows,
                                    AnyMatrix w) const {
  constexpr const char* kWho = "PackedWeights::dequantize_rows";
  at_border(kWho, [&] {
    check_float(kWho, "w", w);
    check_writable(kWho, "w", w);
    const auto count = static_cast<std::int64_t>(rows.size());
    if (w.rows != count || w.cols != k()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": w is " + shape_text(w.rows, w.cols) +
                                          "; " + shape_text(count, k()) + " is wanted");
    }
    for (const std::int64_t row : rows) {
      if (row >= 0 && row < n()) continue;
      fail(ErrorCode::out_of_range, std::string(kWho) + ": there is no row " + std::to_string(row) +
                                        " among " + std::to_string(n()));
    }
    if (w.rows == 0 || w.cols == 0) return;
    check_decodable(kWho, *this);
    const auto on_host = State::on_host(state_);
    constexpr std::int64_t kRowsPerTask = 64;
    parallel_tasks(context.executor(), (count + kRowsPerTask - 1) / kRowsPerTask,
                   [&](std::int64_t task) {
                     const ScopedFloatEnvironment environment;
                     const std::int64_t begin = task * kRowsPerTask;
                     decode_rows(*on_host, begin, std::min(count, begin + kRowsPerTask), w,
                                 [&](std::int64_t r) { return rows[static_cast<std::size_t>(r)]; });
                   });
  });
}

}  // namespace kvant
