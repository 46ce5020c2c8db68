#pragma once

/// @file
/// The core: all of kvant that is headers. It needs a C++20 compiler and nothing to link: dtypes
/// and their conversions, views, schemes, parameters, error metrics, and, in namespace kvant::core,
/// the normative quantizers, observers and LLM.int8() as templates.
///
/// The compiled library has the functions of kvant::core under the same names in namespace kvant,
/// with kernels and threads and the same bits; types are shared, so that one program may use both.
/// kvant::q is kvant where the target kvant::kvant is linked (KVANT_LINKED), and kvant::core
/// elsewhere:
///
///     auto params = kvant::q::choose_params(x, kvant::int8_symmetric, kvant::per_row);
///
/// (In an inline function of a header that is compiled both ways, kvant::q would mean two things:
/// name one of the two there.)

#include "kvant/activation_options.hpp"
#include "kvant/block_range.hpp"
#include "kvant/checked_view.hpp"
#include "kvant/codebook.hpp"
#include "kvant/config.hpp"
#include "kvant/core/distribution_observer.hpp"
#include "kvant/core/histogram_observer.hpp"
#include "kvant/core/linear_quantizer.hpp"
#include "kvant/core/llm_int8.hpp"
#include "kvant/core/observer.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/exact_decimal.hpp"
#include "kvant/finfo.hpp"
#include "kvant/float16.hpp"
#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/quant_scheme.hpp"
#include "kvant/quantize.hpp"
#include "kvant/quantized_matrix.hpp"
#include "kvant/round_order.hpp"
#include "kvant/tensor_view.hpp"
#include "kvant/tf32.hpp"
#include "kvant/version.hpp"
#include "kvant/visit_dtype.hpp"
#include "kvant/weight_format.hpp"
#if defined(KVANT_LINKED)
#include "kvant/linear_quantizer.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/observer.hpp"
#endif

namespace kvant {

/// @cond
#if defined(KVANT_LINKED)
namespace q = ::kvant;
#else
namespace q = ::kvant::core;
#endif
/// @endcond

}  // namespace kvant
