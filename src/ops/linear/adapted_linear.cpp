// Linear with an adapter: the layer's own product and the adapter's, one after the other.

#include <memory>
#include <string>

#include "kvant/adapter.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

Linear Linear::with_adapter(ConstAnyMatrix a, ConstAnyMatrix b, float scale) const {
  return with_adapter(default_context(), a, b, scale);
}

Linear Linear::with_adapter(Context& context, ConstAnyMatrix a, ConstAnyMatrix b,
                            float scale) const {
  constexpr const char* kWho = "Linear::with_adapter";
  return at_border(kWho, [&] {
    if (a.cols != in_features() || b.rows != out_features()) {
      fail(ErrorCode::shape_mismatch,
           std::string(kWho) + ": A is " + shape_text(a.rows, a.cols) + " and B " +
               shape_text(b.rows, b.cols) + ", the layer takes " + std::to_string(in_features()) +
               " inputs to " + std::to_string(out_features()) + " outputs");
    }
    Linear result(state_);
    result.adapter_ = std::make_shared<const Adapter>(context, a, b, scale);
    return result;
  });
}

/// With the sum in fp32 until the adapter's part is in it.
void Linear::forward_adapted(const char* who, Context& context, ConstAnyMatrix x,
                             AnyMatrix y) const {
  at_border(who, [&] {
    const Linear base(state_);
    if (y.dtype == DType::float32) {
      base.forward_as(who, context, x, y);
      adapter_->add_to(context, x, {static_cast<float*>(y.data), y.rows, y.cols, y.stride});
      return;
    }
    check_float(who, "y", y);
    check_writable(who, "y", y);
    check_result_shape(who, y, x.rows, out_features());
    if (overlap(x, y)) fail(ErrorCode::invalid_argument, std::string(who) + ": y overlaps x");
    Matrix<float> sum(y.rows, y.cols);
    const MatrixView<float> view(sum);
    base.forward_as(who, context, x, view);
    adapter_->add_to(context, x, view);
    const std::int64_t row_bytes = y.stride * (describe(y.dtype).bits / 8);
    for (std::int64_t r = 0; r < y.rows; ++r) {
      context.kernels().convert({view.row_data(r), DType::float32,
                                 static_cast<std::byte*>(y.data) + r * row_bytes, y.dtype, y.cols});
    }
  });
}

}  // namespace kvant
