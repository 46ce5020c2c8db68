#pragma once

/// @file
/// HQQ: Half-Quadratic Quantization (mobiusml.github.io/hqq_blog), which moves the shift of a block
/// to where the p-norm of its error, p < 1, stops falling. It looks at weights alone.

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::methods {

/// Of the search; the defaults are optimum-quanto's.
struct HqqOptions {
  double norm = 0.7;    ///< p: the smaller, the less single large errors count
  double beta = 10.0;   ///< errors below |e|^(p-1) / beta are taken for none
  double kappa = 1.01;  ///< by which beta grows with each step that helped
  int iterations = 20;  ///< at most; it ends when the mean |error| of all of w rises
};

/// `start` with better shifts, as optimum-quanto's HqqOptimizer finds them (to 1e-6 after as many
/// steps; its fp32 mean of errors may stop it a step or two before): scales stay.
/// Shifts are real numbers here, for quantize() and QuantizedMatrix; forms with zero points among
/// the codes (GPTQ, AWQ) have RangeSearch::hqq. Costs one fake_quantize of w per step, and a
/// float32 copy of it.
/// @param w [any, any], @param start  choose_params(context, w, quanto_qint4 or quanto_qint2,
///        block)
/// @throws Error invalid_argument: parameters without shifts, options out of range; not_finite;
///         as fake_quantize
[[nodiscard]] KVANT_API QuantParams hqq_params(Context& context, MatrixView<const float> w,
                                               QuantParams start, const HqqOptions& options = {});

}  // namespace kvant::methods
