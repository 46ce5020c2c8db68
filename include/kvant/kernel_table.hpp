#pragma once

/// @file
/// THE interface between the middle of the library (src/ops: validation, threads, workspace) and
/// its back (src/cpu, one translation unit per instruction set; later src/cuda): plain structs of
/// arguments and one struct of noexcept function pointers. Nothing here allocates, throws, starts a
/// thread or knows an instruction set; nothing behind it validates.
///
/// Every operation gives bit-identical results on every kernel set (numerics.md), so a table may
/// take an operation from its parent whenever it has nothing better.

#include <cstddef>
#include <cstdint>

#include "kvant/dtype.hpp"

namespace kvant {

/// How a kernel set wants activation codes: K padded with the code of zero.
enum class CodeFormat : std::uint8_t {
  s8,         ///< the code itself
  u8_offset,  ///< code + 128, for instructions that multiply unsigned by signed
};

/// The cut of M rows into blocks of at most mr, as even as possible: 33 rows in blocks of 8 are
/// 7 + 7 + 7 + 6 + 6. The activations of a block lie together, in groups of 4 bytes of each row in
/// turn: [k_padded * element / 4][rows of the block][4 bytes]; the blocks follow each other without
/// gaps. A block of one row is a plain row.
struct RowBlocks {
  std::int64_t m;
  std::int32_t mr;

  [[nodiscard, gnu::always_inline]] constexpr std::int64_t count() const noexcept {
    return (m + mr - 1) / mr;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t first(
      std::int64_t block) const noexcept {
    return m * block / count();
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int32_t rows(std::int64_t block) const noexcept {
    return static_cast<std::int32_t>(first(block + 1) - first(block));
  }
};

/// What the activations of a GEMM may be read beyond their end, in bytes.
inline constexpr std::int64_t kActivationSlack = 64;

/// Where weight code (n, k) stands in a packed matrix. Panels of nr outputs; inside a panel groups
/// of kr consecutive k lie together for each output:  [n / nr][k / kr][n % nr][k % kr].
/// Outputs are padded to nr and k to k_pad with zero codes. nr = kr = 1 is plain row-major.
struct WeightLayout {
  std::int32_t nr = 1;
  std::int32_t kr = 1;
  std::int32_t k_pad = 1;  ///< K is rounded up to a multiple of this (itself a multiple of kr)

  friend constexpr bool operator==(const WeightLayout&, const WeightLayout&) = default;

  [[nodiscard]] constexpr std::int64_t padded_n(std::int64_t n) const noexcept {
    return (n + nr - 1) / nr * nr;
  }
  [[nodiscard]] constexpr std::int64_t padded_k(std::int64_t k) const noexcept {
    return (k + k_pad - 1) / k_pad * k_pad;
  }
  [[nodiscard]] constexpr std::int64_t offset(std::int64_t n, std::int64_t k,
                                              std::int64_t k_padded) const noexcept {
    return (n / nr) * (nr * k_padded) + (k / kr) * (nr * kr) + (n % nr) * kr + k % kr;
  }
};

/// A float matrix to read: rows x cols of float32, float16 or bfloat16.
struct FloatRows {
  const void* data;
  DType dtype;
  std::int64_t rows;
  std::int64_t cols;
  std::ptrdiff_t stride;  ///< elements
};

/// Quantizes rows to symmetric int8, each by its own absmax (or by a given one), and finds
/// outliers, reading the matrix once.
///   absmax[r] = max |x| over the elements that are neither masked nor outliers; codes =
///   rne(x * (127 / absmax)); outlier and masked elements have code 0.
///   A row with a NaN: absmax NaN, codes 0. A row of zeros: absmax 0, codes 0.
///   Where 127 / absmax would overflow, absmax is raised to kSmallestAbsmax.
struct QuantizeRowsArgs {
  FloatRows x;
  /// As bitsandbytes: x is rounded to fp16 first, and the inverse scale is (1 / absmax) * 127,
  /// which is how torch evaluates 127 / tensor and differs from one division in the last bit.
  bool parity;
  /// |x| >= threshold is an outlier; +infinity: only infinities are. Not negative (-0 neither), not
  /// NaN.
  float threshold;
  /// [cols]: 0 removes a column (a known outlier feature), -1 keeps it; null keeps all.
  const std::int16_t* keep_mask;
  /// Scale by this absmax instead of each row's own; null: the row's own.
  const float* given_absmax;
  void* codes;  ///< [rows, k_padded] in `format`, padding is written too; null: only scan
  CodeFormat format;
  std::ptrdiff_t code_stride;  ///< bytes between rows
  std::int64_t k_padded;       ///< at least cols, a multiple of the layout's k_pad
  float* absmax;               ///< [rows]
  /// [cols], zeros and ones, this call's alone: set to 1 where a column has an outlier, the others
  /// stay. Null: outliers are not wanted, a row that has one (an infinity) gets absmax NaN.
  std::uint8_t* outlier_columns;
};

/// The absmax below which 127 / absmax is not finite: 127 times the smallest float with a finite
/// reciprocal (bits 0x00200001), rounded up.
inline constexpr float kSmallestAbsmax = 0x1.fc0010p-122f;

/// Minimum and maximum, NaN elements ignored (a slice of nothing but NaN: +inf, -inf).
struct RangeArgs {
  FloatRows x;
  bool per_column;  ///< false: min[rows], max[rows]; true: min[cols], max[cols], merged into what
                    ///< they hold, so that row blocks can be scanned one after the other
  float* min;
  float* max;
};

/// Order of the roundings in quantize; with zero point 0 all reciprocal orders agree.
enum class RoundOrder : std::uint8_t {
  kvant,          ///< clamp(rne(x * inv_scale) + zero_point)
  divide,         ///< clamp(rne(x / scale) + zero_point): quanto, GPTQ, AWQ
  torch_channel,  ///< clamp(rne(x * inv_scale + zero_point)): torch per channel, qint32
  torch_tensor,   ///< clamp(rne(fma(x, inv_scale, zero_point))): torch per tensor
};

/// Elementwise quantization to 8-bit codes. Parameter p of element (r, c) is
/// p[r * row_step + c * col_step]; the steps are 0 or 1. NaN gives the zero point.
struct QuantizeArgs {
  FloatRows x;
  RoundOrder order;
  const float* scale;       ///< inv_scale for the reciprocal orders, scale for divide
  const float* zero_point;  ///< integers
  std::int32_t row_step;
  std::int32_t col_step;
  float lowest;  ///< clamp range, inside the code type's
  float highest;
  void* codes;  ///< [rows, cols]: int8, or uint8 where is_unsigned
  bool is_unsigned;
  std::ptrdiff_t code_stride;
};

/// (code - zero_point) * scale in fp32, then one rounding to y's type.
struct DequantizeArgs {
  const void* codes;
  bool is_unsigned;
  std::int64_t rows;
  std::int64_t cols;
  std::ptrdiff_t code_stride;
  const float* scale;
  const float* zero_point;
  std::int32_t row_step;
  std::int32_t col_step;
  void* y;
  DType y_dtype;  ///< float32, float16 or bfloat16
  std::ptrdiff_t y_stride;
};

/// Converts between float32, float16 and bfloat16 (round to nearest even).
struct ConvertArgs {
  const void* x;
  DType x_dtype;
  void* y;
  DType y_dtype;
  std::int64_t count;
};

/// One group of outlier features in the epilogue: y += x[m, j] * w[n, j], j ascending, by fma.
struct OutlierBlock {
  const float* x;           ///< activations, [count, m]: a row for each feature
  std::ptrdiff_t x_stride;  ///< between features
  /// [n / nr][count][nr], in panels as the weights; null: the GEMM makes it from its own weights,
  /// panel by panel (OutlierColumns). Only the second group's may be.
  const void* w;
  std::ptrdiff_t w_stride;  ///< between panels, elements
  DType w_dtype;            ///< float32, float16 or bfloat16
  std::int64_t count;

  /// The same features with the weights of a single panel, [count][nr], as a GEMM gathers them.
  [[nodiscard, gnu::always_inline]] constexpr OutlierBlock with_panel(
      const float* weights) const noexcept {
    return {x, x_stride, weights, 0, DType::float32, count};
  }
};

/// Which columns of the packed weights the second group of outlier features takes, as floats:
///   w[n, j] = round(code[n, columns[j]] * scale[n] * factor)
struct OutlierColumns {
  const std::int64_t* columns;  ///< [outliers[1].count], ascending
  const float* scale;           ///< [n padded]
  float factor;
  DType rounded_to;  ///< float32 (not at all), float16 or bfloat16
};

/// A GEMM gathers at most this many weights of one panel (count * nr floats) by itself. With more
/// the caller must have gather_columns make those of all panels first.
inline constexpr std::int64_t kGatheredWeights = 4096;

/// What happens to an int32 accumulator on its way out:
///   y = narrow(float(acc) * (row_scale * col_scale) * scale + outliers + bias)
/// with the outliers summed in fp32 from zero. round_first is bitsandbytes' order:
///   y = narrow(narrow(float(acc) * (row_scale * col_scale) * scale + bias) + outliers).
struct Epilogue {
  void* y;
  DType y_dtype;  ///< float32, float16, bfloat16; int32 stores acc and ignores the rest
  std::ptrdiff_t y_stride;
  const float* row_scale;  ///< [m]
  const float* col_scale;  ///< [n], padded to nr
  float scale;
  const float* bias;  ///< [n], padded to nr; null: none
  OutlierBlock outliers[2];
  bool round_first;
};

/// A part of one weight that its packed code lacks.
struct Residual {
  std::uint32_t bits;  ///< k << 15 | output << 8 | excess

  /// @param output  inside its panel, < 128
  /// @param excess  -128..127, to be added to the packed code
  static constexpr Residual of(std::int64_t k, std::int64_t output, int excess) noexcept {
    return {static_cast<std::uint32_t>(k << 15 | output << 8 | (excess & 255))};
  }
  // Always inlined: code of an instruction set's translation unit may not be shared with others.
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t k() const noexcept { return bits >> 15; }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t output() const noexcept {
    return bits >> 8 & 127u;
  }
  [[nodiscard, gnu::always_inline]] constexpr int excess() const noexcept {
    return static_cast<std::int8_t>(bits & 255u);
  }
};

/// What a panel's packed codes lack of the true ones. Instructions that sum pairs of products in 16
/// bits saturate unless the two weights of a pair stay within -128..128 together; where a pair does
/// not, the excess of one weight is taken out of the packed codes and multiplied separately. That
/// is a property of the weights alone, found when they are packed, and the result is exact.
struct ResidualLists {
  /// [panels + 1] into entries.
  const std::int64_t* panel_begin;
  /// The entries of a panel are in the order of its codes (groups of k, then outputs): one loop
  /// takes them all, its reads of activations go forward, and neighbours rarely add to the same
  /// sum.
  const Residual* entries;
  /// [panels]: 1 where there are too many pairs for a list: the codes are complete and the kernel
  /// multiplies them by wider, slower steps.
  const std::uint8_t* wide;
};

/// Int8 GEMM over a range of output tiles. K is never split: an int32 accumulator holds it all.
struct GemmArgs {
  const void* a;                 ///< activation codes in RowBlocks{m, mr}, in the set's format
  const std::int8_t* b;          ///< packed weights
  const std::int32_t* b_offset;  ///< [n padded] subtracted from acc (u8_offset: 128 * sum of codes)
  ResidualLists residuals;       ///< only for sets with pair_limit; null pointers otherwise
  std::int64_t m;
  std::int64_t n;
  std::int64_t k_padded;
  std::int64_t block_begin, block_end;  ///< row blocks of this call
  std::int64_t panel_begin, panel_end;  ///< panels (of nr outputs) of this call
  /// For gather_columns, and for the GEMM where epilogue.outliers[1] has features and no w.
  OutlierColumns columns;
  Epilogue epilogue;
};

/// How a kernel set wants the activations of its bfloat16 GEMM: in RowBlocks, K padded with zeros.
enum class HalfFormat : std::uint8_t {
  f32,   ///< bf16 values widened to float
  bf16,  ///< as they are
};

/// bfloat16 GEMM over a range of output tiles, summed in float32: y = narrow(a b^T + bias).
struct HalfGemmArgs {
  const void* a;           ///< in RowBlocks{m, mr}, in the set's format
  const std::uint16_t* b;  ///< packed bfloat16 weights
  std::int64_t m;
  std::int64_t n;
  std::int64_t k_padded;
  std::int64_t block_begin, block_end;
  std::int64_t panel_begin, panel_end;
  void* y;
  DType y_dtype;  ///< float32, float16 or bfloat16
  std::ptrdiff_t y_stride;
  const float* bias;  ///< [n], padded to nr; null: none
};

/// The half-precision kernels: what int8 is measured against, and what kept layers run on. Unlike
/// the integers, their sums may differ between instruction sets in the last bits (numerics.md gives
/// bounds, not bits, for floats); on one machine they do not depend on threads.
struct HalfKernels {
  WeightLayout layout;
  HalfFormat activations;
  void (*gemm)(const HalfGemmArgs&) noexcept;
};

/// The kernels of one instruction set.
struct KernelTable {
  const char* name;
  WeightLayout layout;
  CodeFormat activation_format;
  std::int32_t mr;  ///< rows of the register tile: the cut of M into RowBlocks
  /// Two neighbouring weights (k even, k + 1) may sum to -pair_limit..pair_limit, counting equal
  /// signs only; what is beyond goes into ResidualLists. 0: no limit.
  std::int32_t pair_limit;

  void (*quantize_rows)(const QuantizeRowsArgs&) noexcept;
  void (*range)(const RangeArgs&) noexcept;
  void (*quantize)(const QuantizeArgs&) noexcept;
  void (*dequantize)(const DequantizeArgs&) noexcept;
  void (*convert)(const ConvertArgs&) noexcept;
  void (*gemm)(const GemmArgs&) noexcept;
  /// w[n / nr][count][nr] of args.columns for the args' range of panels, into its place in w.
  void (*gather_columns)(const GemmArgs&, float* w) noexcept;
  HalfKernels half;
};

}  // namespace kvant
