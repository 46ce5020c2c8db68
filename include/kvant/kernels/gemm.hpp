#pragma once

/// @file
/// The matrix product of a kernel set: one argument struct and one epilogue for every weight
/// format, and GemmKernels, what a set has for one format.

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/kernels/groups.hpp"
#include "kvant/kernels/layouts.hpp"

namespace kvant {

/// One group of outlier features in the epilogue: y += x[m, j] * w[n, j], j ascending, by fma.
struct OutlierBlock {
  const float* x;           ///< activations, [count, m]: a row for each feature
  std::ptrdiff_t x_stride;  ///< between features
  /// [n / nr][count][nr], in panels as the weights; null: the GEMM makes it from its own weights,
  /// panel by panel (OutlierColumns). Only those of the found features may be.
  const void* w;
  std::ptrdiff_t w_stride;  ///< between panels, elements
  DType w_dtype;            ///< float32, float16 or bfloat16
  std::int64_t count;
  /// Where a device keeps the count, which the host does not know then (count is the room for
  /// them); its kernels read the features' activations from GemmArgs::x if x is null. Null on the
  /// host.
  const std::int64_t* count_at = nullptr;

  /// The same features with the weights of a single panel, [count][nr], as a GEMM gathers them.
  [[nodiscard, gnu::always_inline]] constexpr OutlierBlock with_panel(
      const float* weights) const noexcept {
    return {x, x_stride, weights, 0, DType::float32, count, count_at};
  }
};

/// Which columns of the packed weights the found outlier features take, as floats:
///   w[n, j] = round(code[n, columns[j]] * scale[n] * factor)
struct OutlierColumns {
  const std::int64_t* columns;  ///< [outliers.found.count], ascending
  const float* scale;           ///< [n padded]
  float factor;
  DType rounded_to;  ///< float32 (not at all), float16 or bfloat16
};

/// A GEMM gathers at most this many weights of one panel (count * nr floats) by itself. With more
/// the caller must have gather_columns make those of all panels first.
inline constexpr std::int64_t kGatheredWeights = 4096;

/// The outlier features of a product: those whose weights were kept in 16 bits beside the codes,
/// and those found in this call, whose weights are the codes.
struct Outlying {
  OutlierBlock kept = {};
  OutlierBlock found = {};

  [[nodiscard, gnu::always_inline]] constexpr std::int64_t count() const noexcept {
    return kept.count + found.count;
  }
};

/// What happens to a sum over K on its way out:
///   y = narrow(float(sum) * (row_scale * col_scale) * scale + outliers + bias)
/// with the outliers summed in fp32 from zero, kept before found. bias_first is bitsandbytes'
/// order:
///   y = narrow(narrow(float(sum) * (row_scale * col_scale) * scale + bias) + outliers).
/// Formats with a scale for each group of k have their sums in float, the groups' scales in them:
///   y = narrow(sum * row_scale + outliers + bias).
/// Float formats have neither scales nor outliers: y = narrow(sum + bias).
struct Epilogue {
  void* y;
  DType y_dtype;  ///< float32, float16, bfloat16; int32 stores integer sums and ignores the rest
  std::ptrdiff_t y_stride;
  const float* row_scale;  ///< [m]
  const float* col_scale;  ///< [n], padded to nr
  float scale;
  const float* bias;  ///< [n], padded to nr; null: none
  Outlying outliers;
  bool bias_first;
};

/// Scales that lie beside the codes, for kernels that multiply or widen their real values.
struct ScaleGrid {
  const float* scales = nullptr;  ///< [n padded to nr][count]
  std::int64_t count = 0;         ///< of an output
  std::int64_t block = 0;         ///< inputs that share one; 0: all
};

/// A product over a range of output tiles. K is never split: a sum over all of it is made in one
/// go, so results do not depend on how the tiles are shared out.
struct GemmArgs {
  const void* a;  ///< activations in RowBlocks, in the kernels' format
  const void* b;  ///< packed weights
  const std::int32_t*
      b_offset;               ///< [n padded] subtracted from sums (u8_offset: 128 * sum of codes)
  NibblePanels nibbles = {};  ///< how b lies, if its codes have 4 bits
  GroupPanels groups = {};    ///< how b lies, if it has groups of other codes
  ScaleGrid scales = {};      ///< of elements that stand for real values (fp8)
  const std::int32_t* a_sums = nullptr;  ///< of a, where the kernels want them (ActivationSums)
  TileRange range;
  /// For gather_columns, and for the GEMM where outliers.found has features and no w.
  OutlierColumns columns;
  Epilogue epilogue;
  /// The activations as they came, and below which |x| an element is no outlier (0: all of a listed
  /// column are): only for a device's kernels, where outliers.found has no x.
  FloatRows x = {};
  float threshold = 0.0f;
  void* queue = nullptr;  ///< of a device (kernels/memory.hpp); host kernels do not look
};

/// What a kernel set has for weights of one format.
struct GemmKernels {
  ActivationFormat activations = ActivationFormat::f32;
  WeightLayout layout;
  std::int32_t mr = 1;     ///< rows of the register tile: the cut of M into RowBlocks
  std::int32_t group = 4;  ///< bytes of a row that lie together there
  ActivationSums sums = ActivationSums::none;
  /// Null: the set multiplies no weights of this format; they are widened to float32, panel by
  /// panel, and multiplied as such (src/ops/linear).
  void (*gemm)(const GemmArgs&) noexcept = nullptr;
  /// The most rows that gemm takes; for more, weights are widened. 0: as many as there are.
  std::int32_t most_rows = 0;
  /// w[n / nr][count][nr] of args.columns for the args' range of panels, into its place in w. Null
  /// for float formats.
  void (*gather_columns)(const GemmArgs&, float* w) noexcept = nullptr;
  /// The real values of panel range.panel_begin, [k_padded][nr], exactly as the format's rules have
  /// them. Null: the rules do it. A device's kernels: of the panels of the range, rows of
  /// range.k_padded each.
  void (*widen_panel)(const GemmArgs&, float* w) noexcept = nullptr;

  [[nodiscard]] constexpr RowBlocks blocks(std::int64_t m) const noexcept { return {m, mr, group}; }
  /// Weights packed for one can be multiplied by the other.
  [[nodiscard]] constexpr bool same_weights(const GemmKernels& other) const noexcept {
    return layout == other.layout && activations == other.activations;
  }
  /// Activations made for one can be multiplied by the other.
  [[nodiscard]] constexpr bool same_activations(const GemmKernels& other) const noexcept {
    return activations == other.activations && mr == other.mr && group == other.group &&
           layout.k_pad == other.layout.k_pad && sums == other.sums;
  }
};

}  // namespace kvant
