#pragma once

// What a model computes in float, as kernels that are compiled once for each instruction set
// (NAME.cpp, of the same body.hpp). Sixteen lanes whatever the registers hold, sums in one fixed
// order, nothing fused: the results are the same bits on every set.

#include <cstdint>
#include <string_view>

namespace kvant::models {

/// Tokens whose keys lie side by side: a panel holds an element of 16 tokens, then the next
/// element.
inline constexpr std::int64_t kPanelTokens = 16;

/// out[r, 16 p + t] = scale * dot(query r, key of token t of panel p).
struct ScoresArgs {
  const float* queries;  ///< [rows, head_dim]
  std::int64_t rows;
  std::int64_t head_dim;
  const float* keys;          ///< the first panel's part of this head, [head_dim, 16]; null: codes
  const std::int8_t* codes;   ///< the same as codes
  const float* code_scales;   ///< of codes, [16] for each panel
  std::int64_t panel_stride;  ///< elements from panel to panel
  std::int64_t scale_stride;  ///< scales from panel to panel
  std::int64_t panels;
  float scale;
  float* out;
  std::int64_t out_stride;
};

/// Sixteen rows of a matrix as a panel of keys: panel[c, i] = rows[i, c]. With scores this is the
/// product of floats by a float matrix.
struct PanelArgs {
  const float* rows;
  std::int64_t stride;
  std::int64_t columns;
  float* panel;  ///< [columns, 16]
};

/// y[r, n] = dot(row r of x, row n of weights): few rows of x, weights read once.
struct DotArgs {
  const float* x;  ///< [rows, columns]
  std::int64_t rows;
  std::int64_t columns;
  const float* weights;         ///< [outputs, columns]; null: halves
  const std::uint16_t* halves;  ///< the same as the bits of bfloat16
  std::int64_t outputs;
  float* y;
  std::int64_t y_stride;
};

/// row becomes softmax(row) over [begin, end), zero elsewhere; width is a multiple of 16.
struct SoftmaxArgs {
  float* row;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t width;
};

/// out[r, c] = sum over tokens of weights[r, t] * values[t, c], from the first token on.
struct MixArgs {
  const float* weights;  ///< [rows, tokens]
  std::int64_t weights_stride;
  std::int64_t rows;
  std::int64_t tokens;
  const float* values;       ///< [tokens, head_dim]; null: codes
  const std::int8_t* codes;  ///< the same as codes, whose scales are in the weights
  std::int64_t value_stride;
  std::int64_t head_dim;
  float* out;  ///< [rows, head_dim]
};

/// out = gate * sigmoid(factor * (gate + cubic * gate^3)) [* up]: silu, quick_gelu and gelu's tanh
/// form. up may be null; out may be gate.
struct GateArgs {
  const float* gate;
  const float* up;
  float* out;
  std::int64_t count;
  float factor;
  float cubic;
};

/// The kernels of one instruction set.
struct VectorKernels {
  void (*scores)(const ScoresArgs&) noexcept;
  void (*softmax)(const SoftmaxArgs&) noexcept;
  void (*mix)(const MixArgs&) noexcept;
  void (*gate)(const GateArgs&) noexcept;
  void (*panel)(const PanelArgs&) noexcept;
  void (*dot)(const DotArgs&) noexcept;
};

/// Those that go with the kernel set of a Context (Context::isa()); for a device's, the plain ones.
[[nodiscard]] const VectorKernels& vector_kernels(std::string_view isa);

extern const VectorKernels vector_kernels_plain;
extern const VectorKernels vector_kernels_avx2;
extern const VectorKernels vector_kernels_avx512;

}  // namespace kvant::models
