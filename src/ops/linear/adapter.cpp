#include "kvant/adapter.hpp"

#include <cmath>
#include <memory>
#include <string>

#include "kvant/error.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/matrix.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

Adapter::Adapter(Context& context, ConstAnyMatrix a, ConstAnyMatrix b, float scale)
    : scale_(scale) {
  constexpr const char* kWho = "Adapter";
  if (context.memory() != nullptr) {
    fail(ErrorCode::unsupported, std::string(kWho) + ": the context runs \"" +
                                     context.kernels().name +
                                     "\"; adapters run on the processor's kernels");
  }
  if (!std::isfinite(scale)) {
    fail(ErrorCode::invalid_argument,
         std::string(kWho) + ": the scale " + std::to_string(scale) + " is not finite");
  }
  if (a.rows != b.cols) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": A is " + shape_text(a.rows, a.cols) +
                                        " and B " + shape_text(b.rows, b.cols) +
                                        "; A is to be [rank, in], B [out, rank]");
  }
  a_ = Linear::quantize(context, a, WeightFormat::float32);
  b_ = Linear::quantize(context, b, WeightFormat::float32);
}

void Adapter::add_to(Context& context, ConstAnyMatrix x, MatrixView<float> y) const {
  constexpr const char* kWho = "Adapter::add_to";
  at_border(kWho, [&] {
    if (rank() == 0) return;
    if (x.cols != in_features() || y.cols() != out_features() || x.rows != y.rows()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": x is " + shape_text(x.rows, x.cols) +
                                          " and y " + shape_text(y.rows(), y.cols()) +
                                          ", the adapter takes " + std::to_string(in_features()) +
                                          " inputs to " + std::to_string(out_features()) +
                                          " outputs");
    }
    Matrix<float> inner(x.rows, rank());
    a_.forward(context, x, MatrixView<float>(inner));
    for (std::int64_t i = 0; i < x.rows * rank(); ++i) inner.data()[i] *= scale_;
    Matrix<float> change(x.rows, out_features());
    b_.forward(context, MatrixView<const float>(inner), MatrixView<float>(change));
    for (std::int64_t r = 0; r < x.rows; ++r) {
      float* to = y.row_data(r);
      const float* from = change.data() + r * out_features();
      for (std::int64_t n = 0; n < out_features(); ++n) to[n] += from[n];
    }
  });
}

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
