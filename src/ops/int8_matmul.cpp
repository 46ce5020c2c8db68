#include "kvant/int8_matmul.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "kvant/error.hpp"
#include "ops/int8_weights.hpp"
#include "ops/parallel_tiles.hpp"
#include "ops/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

constexpr const char* kWho = "int8_matmul";

void check_operands(const Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                    const ConstAnyMatrix& y) {
  check_readable(kWho, "a", a);
  check_writable(kWho, "y", y);
  if (a.cols() != w.k()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": a has " + std::to_string(a.cols()) +
                                        " columns, the weights have " + std::to_string(w.k()));
  }
  if (y.rows != a.rows() || y.cols != w.n()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": y is " + shape_text(y.rows, y.cols) +
                                        "; " + shape_text(a.rows(), w.n()) + " is wanted");
  }
  if (overlap(a, y)) fail(ErrorCode::invalid_argument, std::string(kWho) + ": y overlaps a");
  if (!w.fits(context.kernels())) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the weights are packed for \"" +
                                     w.packed_for() + "\", the context runs \"" +
                                     context.kernels().name + "\"; pack them with the same context");
  }
}

/// One row of codes in the kernels' format, padded with the code of zero.
void store_row(CodeFormat format, const std::int8_t* from, std::int64_t k, std::int64_t k_padded,
               std::byte* to) noexcept {
  if (format == CodeFormat::s16) {
    auto* wide = reinterpret_cast<std::int16_t*>(to);
    for (std::int64_t i = 0; i < k; ++i) wide[i] = from[i];
    for (std::int64_t i = k; i < k_padded; ++i) wide[i] = 0;
    return;
  }
  const auto zero = static_cast<unsigned char>(format == CodeFormat::u8_offset ? 128 : 0);
  auto* bytes = reinterpret_cast<unsigned char*>(to);
  for (std::int64_t i = 0; i < k; ++i) bytes[i] = static_cast<unsigned char>(from[i]) ^ zero;
  for (std::int64_t i = k; i < k_padded; ++i) bytes[i] = zero;
}

/// Activations into the workspace, then the product with this epilogue.
void multiply(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
              const Epilogue& epilogue) {
  const KernelTable& kernels = context.kernels();
  const bool wide = kernels.activation_format == CodeFormat::s16;
  // Rows of exactly 4096 bytes would all fall into the same cache sets.
  const std::int64_t stride = (w.k_padded() * (wide ? 2 : 1) + 63) / 64 * 64 + 64;
  std::byte* codes = context.workspace(static_cast<std::size_t>(a.rows() * stride));
  parallel(context, a.rows(), a.rows() * a.cols() / 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t m = begin; m < end; ++m) {
      store_row(kernels.activation_format, a.row_data(m), a.cols(), w.k_padded(),
                codes + m * stride);
    }
  });
  const GemmArgs args{.a = codes,
                      .a_stride = stride,
                      .b = w.data(),
                      .b_offset = w.offsets(),
                      .n = w.n(),
                      .k_padded = w.k_padded(),
                      .row_begin = 0,
                      .row_end = 0,
                      .panel_begin = 0,
                      .panel_end = 0,
                      .epilogue = epilogue};
  parallel_tiles(context, args, a.rows(), w.panels(), stride,
                 a.rows() * w.n() * (w.k() / 16 + 1),
                 [&](const GemmArgs& part) { kernels.gemm(part); });
}

}  // namespace

PackedMatrix pack_codes(Context& context, MatrixView<const std::int8_t> codes) {
  check_readable("pack_codes", "codes", codes);
  try {
    PackedMatrix packed(context.kernels(), codes.rows(), codes.cols());
    const std::int64_t nr = packed.layout().nr;
    parallel(context, packed.panels(), codes.size(), [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t first = begin * nr;
      packed.pack_rows(first, codes.rows_from(first, std::min(end * nr, packed.n()) - first));
    });
    return packed;
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, "pack_codes: out of memory");
  }
}

void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                 MatrixView<std::int32_t> y) {
  check_operands(context, a, w, y);
  if (y.empty()) return;
  Epilogue epilogue{};
  epilogue.y = y.data();
  epilogue.y_dtype = DType::int32;
  epilogue.y_stride = y.stride();
  multiply(context, a, w, epilogue);
}

void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                 std::span<const float> row_scale, std::span<const float> col_scale, AnyMatrix y,
                 ConstAnyMatrix bias) {
  check_float(kWho, "y", y);
  check_operands(context, a, w, y);
  if (static_cast<std::int64_t>(row_scale.size()) != a.rows() ||
      static_cast<std::int64_t>(col_scale.size()) != w.n()) {
    fail(ErrorCode::shape_mismatch,
         std::string(kWho) + ": " + std::to_string(row_scale.size()) + " row scales and " +
             std::to_string(col_scale.size()) + " column scales for y " +
             shape_text(a.rows(), w.n()));
  }
  if (bias.rows != 0) {
    check_float(kWho, "bias", bias);
    if (bias.rows != 1 || bias.cols != w.n()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": bias is " +
                                          shape_text(bias.rows, bias.cols) + ", the weights have " +
                                          std::to_string(w.n()) + " outputs");
    }
  }
  if (y.rows == 0 || y.cols == 0) return;
  const ScopedFloatEnvironment environment;
  // The kernels read scales and bias in whole panels.
  const auto padded = static_cast<std::size_t>(w.layout().padded_n(w.n()));
  auto* columns = reinterpret_cast<float*>(context.workspace(2 * padded * sizeof(float), 1));
  float* bias_floats = columns + padded;
  std::memset(columns, 0, 2 * padded * sizeof(float));
  std::copy(col_scale.begin(), col_scale.end(), columns);
  for (std::int64_t n = 0; n < bias.cols && bias.rows != 0; ++n) {
    bias_floats[n] = load_float(bias, 0, n);
  }
  Epilogue epilogue{};
  epilogue.y = y.data;
  epilogue.y_dtype = y.dtype;
  epilogue.y_stride = y.stride;
  epilogue.row_scale = row_scale.data();
  epilogue.col_scale = columns;
  epilogue.scale = 1.0f;
  epilogue.bias = bias.rows != 0 ? bias_floats : nullptr;
  multiply(context, a, w, epilogue);
}

}  // namespace kvant
