// The caller's rounding mode and flush-to-zero flags: every public call that computes gives the
// same bits under all of them, and leaves them as they were.

#include <cfenv>
#include <cstring>
#include <functional>

#include "kvant/bitsandbytes.hpp"
#include "kvant/core.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/observer.hpp"
#include "kvant/torch_quantize.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace kvant::test {
namespace {

/// The bytes of everything a call computed.
class Bytes {
 public:
  template <class T>
  void add(const T* data, std::size_t count) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + count * sizeof(T));
    if (count > 0) std::memcpy(bytes_.data() + at, data, count * sizeof(T));
  }
  template <class T>
  void add(const std::vector<T>& values) {
    add(values.data(), values.size());
  }
  void add(double value) { add(&value, 1); }
  void add(const QuantParams& p) {
    add(p.scale);
    add(p.zero_point);
    add(p.inv_scale);
    add(p.shift);
  }
  bool operator==(const Bytes&) const = default;

 private:
  std::vector<unsigned char> bytes_;
};

constexpr std::int64_t kEnvironmentM = 5;
constexpr std::int64_t kEnvironmentN = 37;
constexpr std::int64_t kEnvironmentK = 70;

struct Call {
  const char* name;
  std::function<Bytes()> run;
};

std::vector<Call> calls() {
  std::mt19937_64 generator(test_seed());
  std::vector<float> x = random_floats(generator, kEnvironmentM * kEnvironmentK);
  x[3] = 50.0f;
  for (std::int64_t k = 0; k < kEnvironmentK; ++k)
    x[static_cast<std::size_t>(2 * kEnvironmentK + k)] *= 1e-39f;
  const std::vector<float> w = random_floats(generator, kEnvironmentN * kEnvironmentK);
  const std::vector<float> bias = random_floats(generator, kEnvironmentN);
  std::vector<Call> all;
  const auto add = [&all](const char* name, std::function<Bytes()> run) {
    all.push_back({name, std::move(run)});
  };
  const auto forward = [=](const Linear& layer) {
    std::vector<float> y(kEnvironmentM * kEnvironmentN);
    layer.forward(view(x, kEnvironmentM, kEnvironmentK),
                  MatrixView<float>(y.data(), kEnvironmentM, kEnvironmentN));
    std::vector<float> back(kEnvironmentN * kEnvironmentK);
    layer.dequantize(MatrixView<float>(back.data(), kEnvironmentN, kEnvironmentK));
    Bytes bytes;
    bytes.add(y);
    bytes.add(back);
    return bytes;
  };
  for (const WeightFormat format :
       {WeightFormat::int4_group, WeightFormat::nf4, WeightFormat::int8_row,
        WeightFormat::int8_group, WeightFormat::float16, WeightFormat::bfloat16}) {
    add("Linear::quantize, forward, dequantize", [=] {
      return forward(Linear::quantize(view(w, kEnvironmentN, kEnvironmentK), format,
                                      view(bias, 1, kEnvironmentN)));
    });
  }
  add("Int8Linear as bitsandbytes, dequantize", [=] {
    const auto layer =
        Int8Linear::quantize(view(w, kEnvironmentN, kEnvironmentK), view(bias, 1, kEnvironmentN),
                             {.arithmetic = Arithmetic::bitsandbytes});
    Bytes bytes = forward(layer);
    std::vector<float> back(kEnvironmentN * kEnvironmentK);
    layer.dequantize(MatrixView<float>(back.data(), kEnvironmentN, kEnvironmentK));
    bytes.add(back);
    return bytes;
  });
  add("Linear in int15 arithmetic", [=] {
    return forward(Linear::quantize(view(w, kEnvironmentN, kEnvironmentK), WeightFormat::int4_group,
                                    view(bias, 1, kEnvironmentN),
                                    {.arithmetic = Arithmetic::int15}));
  });
  add("llm_int8_matmul", [=] {
    std::vector<float> y(kEnvironmentM * kEnvironmentN);
    llm_int8_matmul(view(x, kEnvironmentM, kEnvironmentK), view(w, kEnvironmentN, kEnvironmentK),
                    MatrixView<float>(y.data(), kEnvironmentM, kEnvironmentN));
    Bytes bytes;
    bytes.add(y);
    return bytes;
  });
  for (const QuantScheme& scheme : {int8_symmetric, int8_affine, uint4_affine, torch_qint8_affine,
                                    quanto_qint8, quanto_qint4}) {
    for (const BlockShape block : {per_tensor, per_row, per_group(16)}) {
      add("choose_params, quantize, dequantize, requantize, fake_quantize", [=] {
        const QuantParams params =
            choose_params(view(x, kEnvironmentM, kEnvironmentK), scheme, block);
        const QuantizedMatrix q = quantize(view(x, kEnvironmentM, kEnvironmentK), params);
        Bytes bytes;
        bytes.add(params);
        bytes.add(q.bytes());
        bytes.add(dequantize<float>(q).values());
        bytes.add(requantize(q, params).bytes());
        bytes.add(fake_quantize<float>(view(x, kEnvironmentM, kEnvironmentK), params).values());
        return bytes;
      });
    }
  }
  add("kvant::core", [=] {
    Bytes bytes;
    for (const QuantScheme& scheme : {int8_affine, quanto_qint4, float8_e4m3fn_symmetric}) {
      const QuantParams params =
          core::choose_params(view(x, kEnvironmentM, kEnvironmentK), scheme, per_row);
      const QuantizedMatrix q = core::quantize(view(x, kEnvironmentM, kEnvironmentK), params);
      bytes.add(params);
      bytes.add(q.bytes());
      bytes.add(core::dequantize<float>(q).values());
      bytes.add(core::requantize(q, params).bytes());
      bytes.add(core::fake_quantize<float>(view(x, kEnvironmentM, kEnvironmentK), params).values());
    }
    Matrix<float> y(kEnvironmentM, kEnvironmentN);
    core::llm_int8_matmul(view(x, kEnvironmentM, kEnvironmentK),
                          view(w, kEnvironmentN, kEnvironmentK), y);
    bytes.add(y.values());
    return bytes;
  });
  add("observers", [=] {
    MinMaxObserver extremes(per_row);
    MovingAverageObserver average(0.3f, per_row);
    for (int i = 0; i < 2; ++i) {
      extremes.observe(view(x, kEnvironmentM, kEnvironmentK));
      average.observe(view(x, kEnvironmentM, kEnvironmentK));
    }
    Bytes bytes;
    bytes.add(extremes.params(int8_affine));
    bytes.add(average.params(int8_affine));
    bytes.add(average.params(torch_qint8_affine));
    return bytes;
  });
  add("compare", [=] {
    const ErrorMetrics m = compare(
        view(x, kEnvironmentM, kEnvironmentK),
        fake_quantize<float>(
            view(x, kEnvironmentM, kEnvironmentK),
            choose_params(view(x, kEnvironmentM, kEnvironmentK), int8_symmetric, per_tensor)));
    Bytes bytes;
    for (const double value : {m.max, m.mean, m.mse, m.sqnr_db, m.cosine}) bytes.add(value);
    return bytes;
  });
  add("torch::choose_dynamic_params", [=] {
    const auto p =
        torch::choose_dynamic_params(view(x, kEnvironmentM, kEnvironmentK), DType::uint8, false);
    Bytes bytes;
    bytes.add(static_cast<double>(p.scale));
    bytes.add(static_cast<double>(p.zero_point));
    return bytes;
  });
  add("bitsandbytes::vectorwise_quant", [=] {
    const auto q = bitsandbytes::vectorwise_quant(view(x, kEnvironmentM, kEnvironmentK), 6.0f);
    Bytes bytes;
    bytes.add(q.codes.data(), static_cast<std::size_t>(kEnvironmentM * kEnvironmentK));
    bytes.add(q.row_stats.data(), static_cast<std::size_t>(kEnvironmentM));
    return bytes;
  });
  return all;
}

}  // namespace

TEST_CASE("float environment: no rounding mode and no flush to zero changes a result") {
  for (const Call& call : calls()) {
    const Bytes want = call.run();
    for (const int mode : {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO}) {
      std::fesetround(mode);
      const Bytes got = call.run();
      const int after = std::fegetround();
      std::fesetround(FE_TONEAREST);
      INFO(call.name << " in rounding mode " << mode);
      CHECK(got == want);
      CHECK(after == mode);
    }
#if defined(__x86_64__)
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u);  // flush to zero, denormals are zero
    const Bytes got = call.run();
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    INFO(call.name << " with subnormals flushed");
    CHECK(got == want);
    CHECK((after & 0x8040u) == 0x8040u);
#elif defined(__aarch64__)
    constexpr std::uint64_t kFlushToZero = 1u << 24;
    std::uint64_t saved = 0;
    std::uint64_t after = 0;
    asm volatile("mrs %0, fpcr" : "=r"(saved));
    asm volatile("msr fpcr, %0" : : "r"(saved | kFlushToZero) : "memory");
    const Bytes got = call.run();
    asm volatile("mrs %0, fpcr" : "=r"(after) : : "memory");
    asm volatile("msr fpcr, %0" : : "r"(saved) : "memory");
    INFO(call.name << " with subnormals flushed");
    CHECK(got == want);
    CHECK((after & kFlushToZero) != 0);
#endif
  }
}

}  // namespace kvant::test
