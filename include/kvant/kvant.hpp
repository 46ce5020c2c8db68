#pragma once

/// @file
/// Everything of the core: vocabulary, quantizers, LLM.int8(). Files (kvant/io/...) and the adapters
/// kvant/eigen.hpp and kvant/fmt.hpp are included by name.

#include "kvant/aligned_array.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/executor.hpp"
#include "kvant/finfo.hpp"
#include "kvant/float16.hpp"
#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/int8_matmul.hpp"
#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/observer.hpp"
#include "kvant/packed_matrix.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/quantize.hpp"
#include "kvant/tf32.hpp"
#include "kvant/torch_quantize.hpp"
#include "kvant/version.hpp"
#include "kvant/visit_dtype.hpp"
#include "kvant/weight_format.hpp"
