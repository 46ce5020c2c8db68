#include "kvant/llm_int8.hpp"

#include <vector>

#include "kvant/linear.hpp"
#include "ops/linear/activations.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

void llm_int8_matmul(Context& context, ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                     ConstAnyMatrix bias, const Int8Options& options) {
  constexpr const char* kWho = "llm_int8_matmul";
  detail::at_border(kWho, [&] {
    detail::check_host(kWho, context);
    detail::check_float(kWho, "x", x);
    (void)detail::ActivationRules::of(kWho, options, w.cols);
    Int8Options chosen = options;
    std::vector<std::int64_t> columns;
    if (options.static_params == nullptr && options.arithmetic == Arithmetic::kvant &&
        options.outliers == Outliers::per_call && options.threshold > 0.0f &&
        options.keep_columns.empty() && x.cols == w.cols) {
      columns = detail::find_outlier_columns(context, x, options.threshold);
      chosen.keep_columns = columns;
    }
    Int8Linear::quantize(context, w, bias, chosen).forward(context, x, y);
  });
}

void llm_int8_matmul(ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y, ConstAnyMatrix bias,
                     const Int8Options& options) {
  llm_int8_matmul(default_context(), x, w, y, bias, options);
}

}  // namespace kvant
