// LLM.int8() against bitsandbytes itself: codes, scales and outlier columns exactly, outputs within
// the tolerance of the golden data, on every instruction set of this machine; and the default mode,
// which must not be worse anywhere, and better wherever outlier weights are kept.

#include <algorithm>
#include <cmath>
#include <variant>

#include "kvant/bitsandbytes.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

namespace kvant::test {
namespace {

/// A tensor of the golden file as floats, with its type.
struct Golden {
  DType dtype = DType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;
  std::vector<std::uint16_t> halves;  ///< the same, when it is fp16 or bf16

  [[nodiscard]] ConstAnyMatrix view() const {
    const void* data = halves.empty() ? static_cast<const void*>(values.data()) : halves.data();
    return {data, dtype, rows, cols, cols};
  }
};

Golden read(const io::SafeTensors& file, const std::string& name) {
  Golden g;
  const io::TensorInfo& info = *file.tensor(name).info;
  g.dtype = info.dtype;
  g.cols = static_cast<std::int64_t>(info.shape.back());
  g.rows = info.shape.size() == 2 ? static_cast<std::int64_t>(info.shape[0]) : 1;
  if (info.dtype == DType::float32) {
    g.values = file.values<float>(name);
  } else if (info.dtype == DType::float16) {
    for (const float16 v : file.values<float16>(name)) {
      g.values.push_back(static_cast<float>(v));
      g.halves.push_back(v.bits);
    }
  } else {
    for (const bfloat16 v : file.values<bfloat16>(name)) {
      g.values.push_back(static_cast<float>(v));
      g.halves.push_back(v.bits);
    }
  }
  return g;
}

/// forward() into the type of x, back as floats.
std::vector<float> forward(Context& context, const Int8Linear& layer, const Golden& x) {
  const auto count = static_cast<std::size_t>(x.rows * layer.out_features());
  if (x.dtype == DType::float32) {
    std::vector<float> y(count);
    layer.forward(context, x.view(), MatrixView<float>(y.data(), x.rows, layer.out_features()));
    return y;
  }
  std::vector<std::uint16_t> y(count);
  layer.forward(context, x.view(),
                AnyMatrix(y.data(), x.dtype, x.rows, layer.out_features(), layer.out_features()));
  std::vector<float> floats;
  for (const std::uint16_t bits : y) {
    floats.push_back(x.dtype == DType::float16 ? detail::half_bits_to_float(bits)
                                               : detail::bfloat_bits_to_float(bits));
  }
  return floats;
}

double rms_error(const std::vector<float>& y, const std::vector<double>& exact) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += (y[i] - exact[i]) * (y[i] - exact[i]);
  return std::sqrt(sum / static_cast<double>(y.size()));
}

/// One unit in the last place of v in a type.
float ulp(DType dtype, float v) {
  const int digits = dtype == DType::float16 ? 10 : 7;
  const int exponent = std::max(std::ilogb(v), dtype == DType::float16 ? -14 : -126);
  return std::ldexp(1.0f, exponent - digits);
}

const nlohmann::json& cases() {
  static const nlohmann::json json = read_json("bitsandbytes/cases.json");
  return json;
}

}  // namespace

TEST_CASE("vectorwise_quant is bitsandbytes' bit for bit") {
  const io::SafeTensors file(data_path("bitsandbytes/vectorwise.safetensors"));
  for (const auto& c : cases()["vectorwise"]) {
    const std::string name = c["name"];
    INFO(name);
    const auto x = file.matrix<float16>(name + ".x");
    const auto q = bitsandbytes::vectorwise_quant(x, c["threshold"]);
    CHECK((q.codes == file.values<std::int8_t>(name + ".codes")));
    CHECK((q.row_stats == file.values<float>(name + ".absmax")));
    CHECK(q.outlier_columns.has_value() != c["outliers_are_none"].get<bool>());
    if (q.outlier_columns) {
      CHECK(*q.outlier_columns == c["outlier_cols"].get<std::vector<std::int64_t>>());
    }
  }
}

TEST_CASE("mode bitsandbytes: codes and scales exactly, outputs within tolerance") {
  const io::SafeTensors file(data_path("bitsandbytes/linear8bit.safetensors"));
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    Context context({.isa = isa.name});
    for (const auto& c : cases()["linear8bit"]) {
      const std::string name = c["name"];
      const Golden weight = read(file, name + ".weight");
      const Golden x = read(file, name + ".x");
      const Golden y = read(file, name + ".y");
      const bool has_bias = c["bias"];
      const Golden bias = has_bias ? read(file, name + ".bias") : Golden{};
      const Int8Options options{.threshold = c["threshold"],
                                .arithmetic = Arithmetic::bitsandbytes};
      const Int8Linear layer = Int8Linear::quantize(
          context, weight.view(), has_bias ? bias.view() : ConstAnyMatrix{}, options);
      CHECK((layer.codes() == file.values<std::int8_t>(name + ".CB")));
      const std::vector<float> scb = file.values<float>(name + ".SCB");
      CHECK(std::equal(scb.begin(), scb.end(), layer.absmax().begin(), layer.absmax().end()));

      const std::vector<float> got = forward(context, layer, x);
      const float largest =
          std::fabs(*std::max_element(y.values.begin(), y.values.end(), [](float a, float b) {
            return std::fabs(a) < std::fabs(b);
          }));
      float worst = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        const float difference = std::fabs(got[i] - y.values[i]);
        // The result is rounded before the outlier part is added: an ulp of either may differ.
        const float allowed = x.dtype == DType::float32 ? 1e-6f * largest : ulp(x.dtype, largest);
        worst = std::max(worst, difference / allowed);
      }
      INFO(isa.name << " " << name << ": " << worst << " of the tolerance");
      CHECK(worst <= 1.0f);

      // The same from codes, as a checkpoint would bring them.
      const auto cb = file.matrix<std::int8_t>(name + ".CB");
      const Int8Linear loaded = Int8Linear::from_codes(
          context, cb, scb, has_bias ? bias.view() : ConstAnyMatrix{}, options);
      CHECK((forward(context, loaded, x) == got));
    }
  }
}

TEST_CASE("the functions of bitsandbytes, step by step, give its layers") {
  const io::SafeTensors file(data_path("bitsandbytes/linear8bit.safetensors"));
  for (const auto& c : cases()["linear8bit"]) {
    const std::string name = c["name"];
    INFO(name);
    const Golden x = read(file, name + ".x");
    const Golden y = read(file, name + ".y");
    const auto q = bitsandbytes::vectorwise_quant(x.view(), c["threshold"]);
    const MatrixView<const std::int8_t> ca(q.codes.data(), x.rows, x.cols);
    const auto cb = file.matrix<std::int8_t>(name + ".CB");
    const std::vector<float> scb = file.values<float>(name + ".SCB");
    const std::vector<std::int64_t> none;
    const auto& columns = q.outlier_columns ? *q.outlier_columns : none;
    CHECK(columns == c["outlier_cols"].get<std::vector<std::int64_t>>());
    Golden bias = c["bias"] ? read(file, name + ".bias") : Golden{};

    std::vector<std::int32_t> products(static_cast<std::size_t>(x.rows * cb.rows()));
    bitsandbytes::linear_matmul(ca, cb, {products.data(), x.rows, cb.rows()});
    for (std::int64_t m = 0; m < x.rows; ++m) {
      for (std::int64_t n = 0; n < cb.rows(); ++n) {
        std::int32_t want = 0;
        for (std::int64_t k = 0; k < x.cols; ++k) want += std::int32_t{ca(m, k)} * cb(n, k);
        REQUIRE(products[static_cast<std::size_t>(m * cb.rows() + n)] == want);
      }
    }
    if (x.dtype == DType::float32) {
      std::vector<float> got(products.size());
      const MatrixView<float> out(got.data(), x.rows, cb.rows());
      const ConstAnyMatrix b = c["bias"] ? bias.view() : ConstAnyMatrix{};
      bitsandbytes::mixed_scaled_mm(x.view(), ca, cb, q.row_stats, scb, columns, out, b);
      for (std::size_t i = 0; i < got.size(); ++i) {
        CHECK(got[i] == Approx(y.values[i]).margin(2e-6 * 100).epsilon(1e-5));
      }
      if (columns.empty()) {
        std::vector<float> plain(products.size());
        bitsandbytes::scaled_mm(ca, cb, q.row_stats, scb,
                                {MatrixView<float>(plain.data(), x.rows, cb.rows())}, b);
        CHECK(plain == got);
      }
    }
    std::vector<float> w(static_cast<std::size_t>(cb.size()));
    bitsandbytes::vectorwise_dequant(cb, scb, {w.data(), cb.rows(), cb.cols()});
    CHECK(w[1] == static_cast<float>(cb(0, 1)) * scb[0] * 7.874015718698502e-3f);
  }
}

TEST_CASE("default mode: at most 1.005 of parity's error, and less with kept outlier weights") {
  const io::SafeTensors file(data_path("bitsandbytes/linear8bit.safetensors"));
  Context context;
  for (const auto& c : cases()["linear8bit"]) {
    const std::string name = c["name"];
    const Golden weight = read(file, name + ".weight");
    const Golden x = read(file, name + ".x");
    const Golden bias = c["bias"] ? read(file, name + ".bias") : Golden{};
    const ConstAnyMatrix b = c["bias"] ? bias.view() : ConstAnyMatrix{};
    const std::vector<double> exact = file.values<double>(name + ".y_float64");
    const float threshold = c["threshold"];
    const auto error = [&](const Int8Options& options) {
      return rms_error(
          forward(context, Int8Linear::quantize(context, weight.view(), b, options), x), exact);
    };
    const double parity = rms_error(read(file, name + ".y").values, exact);
    const double ours = error({.threshold = threshold});
    INFO(name << ": parity " << parity << ", default " << ours);
    CHECK(ours <= 1.005 * parity);
    const auto columns = c["outlier_cols"].get<std::vector<std::int64_t>>();
    if (!columns.empty()) {
      const double kept = error({.threshold = threshold, .keep_columns = columns});
      INFO("kept " << kept);
      CHECK(kept < parity);
      CHECK(kept < ours);
    }
  }
}

}  // namespace kvant::test
