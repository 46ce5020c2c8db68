// Layers on a device's memory: weights uploaded once, x and y where the kernels are, y equal to the
// host's bit for bit, and not one word to the host on the way. Runs on the emulated device, and on
// a real one where there is one (device_under_test.hpp).

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/device_under_test.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/float_element.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

/// A block of the device's memory with a copy of the host's bytes.
class OnDevice {
 public:
  OnDevice(const void* host, std::size_t bytes)
      : memory_(*device_kernels().memory), bytes_(bytes), data_(memory_.allocate(bytes)) {
    REQUIRE(data_ != nullptr);
    REQUIRE(memory_.copy(data_, host, bytes, CopyKind::to_device, nullptr));
  }
  ~OnDevice() { memory_.release(data_, bytes_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> host(bytes_);
    REQUIRE(memory_.copy(host.data(), data_, bytes_, CopyKind::to_host, nullptr));
    return host;
  }

 private:
  const Memory& memory_;
  std::size_t bytes_;
  void* data_;
};

std::vector<std::byte> stored(const std::vector<float>& values, DType dtype) {
  const auto size = static_cast<std::size_t>(describe(dtype).bits / 8);
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    detail::store_element(bytes.data(), dtype, static_cast<std::ptrdiff_t>(i), values[i]);
  }
  return bytes;
}

struct LayerCase {
  std::int64_t m, n, k;
  DType x = DType::float32, y = DType::float32;
  Arithmetic arithmetic = Arithmetic::kvant;
  Outliers outliers = Outliers::per_call;
  float threshold = 6.0f;
  ActivationScale scale = ActivationScale::per_row;
  bool bias = true;
  std::vector<std::int64_t> keep = {};
};

/// x with loud columns, a NaN row, a row of zeros, an infinity.
std::vector<float> awkward_x(std::mt19937_64& generator, const LayerCase& c) {
  std::vector<float> x = random_floats(generator, c.m * c.k);
  const auto at = [&](std::int64_t m, std::int64_t k) -> float& {
    return x[static_cast<std::size_t>(m * c.k + k)];
  };
  for (std::int64_t k = 3; k < c.k; k += 29) at(k % c.m, k) = k % 2 == 0 ? 9.5f : -70.0f;
  if (c.m > 3) {
    at(1, c.k / 2) = std::numeric_limits<float>::quiet_NaN();
    for (std::int64_t k = 0; k < c.k; ++k) at(2, k) = 0.0f;
    at(3, c.k - 1) = std::numeric_limits<float>::infinity();
  }
  return x;
}

/// y's bytes with one kind of NaN: whose bits are not promised.
std::vector<std::byte> comparable(std::vector<std::byte> bytes, DType dtype) {
  const auto size = static_cast<std::size_t>(describe(dtype).bits / 8);
  for (std::size_t i = 0; i < bytes.size() / size; ++i) {
    const auto at = static_cast<std::ptrdiff_t>(i);
    if (std::isnan(detail::load_element(bytes.data(), dtype, at))) {
      detail::store_element(bytes.data(), dtype, at, std::numeric_limits<float>::quiet_NaN());
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("layers on a device: the host's y, bit for bit, without waiting", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  const DType f16 = DType::float16, bf16 = DType::bfloat16;
  const Arithmetic bnb = Arithmetic::bitsandbytes;
  const LayerCase cases[] = {
      {1, 1, 1},
      {1, 70, 300},
      {5, 130, 257, bf16, bf16},
      {8, 64, 128, f16, f16, bnb},
      {17, 70, 200, bf16, f16, bnb},
      {9, 40, 100, DType::float32, DType::float32, bnb, Outliers::per_call, 0.0f},
      {20, 90, 333, f16, bf16, Arithmetic::kvant, Outliers::per_row},
      {140, 130, 260, bf16, bf16, Arithmetic::kvant, Outliers::per_row},
      {6,
       33,
       90,
       bf16,
       bf16,
       Arithmetic::kvant,
       Outliers::calibrated,
       6.0f,
       ActivationScale::per_row,
       true,
       {3, 32, 61}},
      {12,
       50,
       140,
       DType::float32,
       f16,
       Arithmetic::kvant,
       Outliers::per_call,
       6.0f,
       ActivationScale::per_tensor,
       false,
       {3}},
      {4, 16, 64, DType::float32, DType::float32, Arithmetic::kvant, Outliers::per_call, 0.0f,
       ActivationScale::per_tensor},
  };
  for (const LayerCase& c : cases) {
    const std::vector<float> w = random_floats(generator, c.n * c.k);
    const std::vector<float> bias = random_floats(generator, c.n);
    const std::vector<std::byte> x = stored(awkward_x(generator, c), c.x);
    const std::vector<std::byte> empty(static_cast<std::size_t>(c.m * c.n * describe(c.y).bits / 8),
                                       std::byte{0xEE});
    Int8Options options;
    options.arithmetic = c.arithmetic;
    options.outliers = c.outliers;
    options.threshold = c.threshold;
    options.activation_scale = c.scale;
    options.keep_columns = c.keep;
    const ConstAnyMatrix bias_view = c.bias ? ConstAnyMatrix(view(bias, 1, c.n)) : ConstAnyMatrix();

    Context host({.isa = "scalar"});
    std::vector<std::byte> want = empty;
    Int8Linear::quantize(host, view(w, c.n, c.k), bias_view, options)
        .forward(host, {x.data(), c.x, c.m, c.k, c.k}, {want.data(), c.y, c.m, c.n, c.n});

    Context context({.kernels = &device_kernels()});
    const auto layer = Int8Linear::quantize(context, view(w, c.n, c.k), bias_view, options);
    const OnDevice device_x(x.data(), x.size());
    for (int repeat = 0; repeat < 2; ++repeat) {
      const OnDevice y(empty.data(), empty.size());
      const int before = times_waited();
      layer.forward(context, {device_x.data(), c.x, c.m, c.k, c.k}, {y.data(), c.y, c.m, c.n, c.n});
      CHECK(times_waited() == before);
      context.wait();
      INFO(c.m << "x" << c.n << "x" << c.k << " x " << to_string(c.x) << " y " << to_string(c.y)
               << " outliers " << static_cast<int>(c.outliers) << " threshold " << c.threshold
               << " arithmetic " << static_cast<int>(c.arithmetic) << " repeat " << repeat);
      CHECK(comparable(y.bytes(), c.y) == comparable(want, c.y));
    }
    // The weights come back as they were.
    CHECK(layer.codes() ==
          Int8Linear::quantize(host, view(w, c.n, c.k), bias_view, options).codes());
  }
}

TEST_CASE("layers on a device: bfloat16 and float32 weights", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  for (const WeightFormat format : {WeightFormat::bfloat16, WeightFormat::float32}) {
    for (const auto& [m, n, k] : {std::array{1, 5, 7}, {30, 70, 100}, {130, 140, 64}}) {
      const std::vector<float> w = random_floats(generator, std::int64_t{n} * k);
      const std::vector<float> x = random_floats(generator, std::int64_t{m} * k);
      const std::vector<float> bias = random_floats(generator, n);
      std::vector<float> want(static_cast<std::size_t>(m * n));
      Context host({.isa = "scalar"});
      Linear::quantize(host, view(w, n, k), format, view(bias, 1, n))
          .forward(host, view(x, m, k), MatrixView<float>(want.data(), m, n));
      Context context({.kernels = &device_kernels()});
      const auto layer = Linear::quantize(context, view(w, n, k), format, view(bias, 1, n));
      const OnDevice device_x(x.data(), x.size() * 4), y(want.data(), want.size() * 4);
      layer.forward(context, {device_x.data(), DType::float32, m, k, k},
                    {y.data(), DType::float32, m, n, n});
      context.wait();
      const std::vector<std::byte> bytes = y.bytes();
      for (std::size_t i = 0; i < want.size(); ++i) {
        const float got =
            detail::load_element(bytes.data(), DType::float32, static_cast<std::ptrdiff_t>(i));
        CHECK(std::fabs(got - want[i]) < 1e-4f * static_cast<float>(k));
      }
    }
  }
}

TEST_CASE("layers on a device: weights in groups, the host's y, bit for bit, without waiting",
          "[cuda]") {
  struct Weights {
    WeightFormat format;
    std::int64_t block = 64;
    bool zero_points = false;
  };
  std::mt19937_64 generator(test_seed());
  const DType f16 = DType::float16, f32 = DType::float32, bf16 = DType::bfloat16;
  const Weights all[] = {{WeightFormat::int4_group, 32},
                         {WeightFormat::int4_group, 64, true},
                         {WeightFormat::int4_group, 128, true},
                         {WeightFormat::int4_group, 1 << 20},
                         {WeightFormat::nf4, 64},
                         {WeightFormat::fp4, 128},
                         {WeightFormat::int3_group, 64, true},
                         {WeightFormat::int2_group, 32},
                         {WeightFormat::int8_group, 128},
                         {WeightFormat::int8_group, 96},
                         {WeightFormat::mxfp4, 32}};
  const LayerCase cases[] = {{1, 1, 64},
                             {1, 71, 1216, f16, f16},
                             {7, 130, 320, bf16, bf16},
                             {33, 45, 192, f16, f32, Arithmetic::kvant, Outliers::per_row},
                             {131, 259, 128, f32, bf16, Arithmetic::kvant, Outliers::per_call, 0.0f,
                              ActivationScale::per_tensor, false},
                             {6,
                              33,
                              384,
                              bf16,
                              f16,
                              Arithmetic::kvant,
                              Outliers::calibrated,
                              6.0f,
                              ActivationScale::per_row,
                              true,
                              {3, 32, 61}},
                             {40,
                              70,
                              256,
                              f16,
                              f16,
                              Arithmetic::kvant,
                              Outliers::per_call,
                              6.0f,
                              ActivationScale::per_row,
                              true,
                              {7}}};
  for (const Weights& weights : all) {
    const PackOptions packing{.block = weights.block, .zero_points = weights.zero_points};
    for (const LayerCase& c : cases) {
      const std::vector<float> w = random_floats(generator, c.n * c.k);
      const std::vector<float> bias = random_floats(generator, c.n);
      const std::vector<std::byte> x = stored(awkward_x(generator, c), c.x);
      const std::vector<std::byte> empty(
          static_cast<std::size_t>(c.m * c.n * describe(c.y).bits / 8), std::byte{0xEE});
      const ActivationOptions options{.threshold = c.threshold,
                                      .outliers = c.outliers,
                                      .keep_columns = c.keep,
                                      .activation_scale = c.scale};
      const ConstAnyMatrix bias_view =
          c.bias ? ConstAnyMatrix(view(bias, 1, c.n)) : ConstAnyMatrix();
      const auto layer_of = [&](Context& context) {
        return Linear::quantize(context, view(w, c.n, c.k), weights.format, bias_view, options,
                                packing);
      };
      Context host({.isa = "scalar"});
      const Linear of_host = layer_of(host);
      std::vector<std::byte> want = empty;
      of_host.forward(host, {x.data(), c.x, c.m, c.k, c.k}, {want.data(), c.y, c.m, c.n, c.n});

      Context context({.kernels = &device_kernels()});
      const Linear layer = layer_of(context);
      const OnDevice device_x(x.data(), x.size()), y(empty.data(), empty.size());
      const int before = times_waited();
      layer.forward(context, {device_x.data(), c.x, c.m, c.k, c.k}, {y.data(), c.y, c.m, c.n, c.n});
      CHECK(times_waited() == before);
      context.wait();
      INFO(to_string(weights.format)
           << " in blocks of " << weights.block << " " << c.m << "x" << c.n << "x" << c.k << " x "
           << to_string(c.x) << " y " << to_string(c.y));
      CHECK(comparable(y.bytes(), c.y) == comparable(want, c.y));
      // The weights come back as they were.
      std::vector<float> values(w.size()), host_values(w.size());
      layer.weights().dequantize(MatrixView<float>(values.data(), c.n, c.k));
      of_host.weights().dequantize(MatrixView<float>(host_values.data(), c.n, c.k));
      CHECK(values == host_values);
      std::vector<float> scales, host_scales;
      std::vector<std::uint8_t> zeros, host_zeros;
      layer.weights().unpack_scales(c.n - 1, scales, zeros);
      of_host.weights().unpack_scales(c.n - 1, host_scales, host_zeros);
      CHECK(scales == host_scales);
      CHECK(zeros == host_zeros);
      // No rows: nothing happens.
      layer.forward(context, {device_x.data(), c.x, 0, c.k, c.k}, {y.data(), c.y, 0, c.n, c.n});
    }
  }
}

TEST_CASE("layers on a device: int15 arithmetic is refused where it would be one", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 8 * 64);
  const ActivationOptions int15{.arithmetic = Arithmetic::int15};
  Context context({.kernels = &device_kernels()});
  for (const WeightFormat format : {WeightFormat::int8_row, WeightFormat::int4_group}) {
    CHECK(code_of([&] { (void)Linear::quantize(context, view(w, 8, 64), format, {}, int15); }) ==
          ErrorCode::unsupported);
  }
  CHECK(code_of([&] {
          (void)Linear::quantize(context, view(w, 8, 64), WeightFormat::bfloat16, {}, int15);
        }) == ErrorCode::ok);
}

TEST_CASE("layers on a device: integer formats in exact arithmetic", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  for (const WeightFormat format :
       {WeightFormat::int8_row, WeightFormat::int4_group, WeightFormat::int3_group,
        WeightFormat::nf4, WeightFormat::fp4}) {
    for (const auto& [m, n, k] : {std::array{1, 5, 64}, {30, 70, 192}, {70, 130, 128}}) {
      const std::vector<float> w = random_floats(generator, std::int64_t{n} * k);
      const std::vector<float> x = random_floats(generator, std::int64_t{m} * k);
      const std::vector<float> bias = random_floats(generator, n);
      const ActivationOptions exact{.arithmetic = Arithmetic::exact};
      std::vector<float> want(static_cast<std::size_t>(m * n));
      Context host({.isa = "scalar"});
      Linear::quantize(host, view(w, n, k), format, view(bias, 1, n), exact)
          .forward(host, view(x, m, k), MatrixView<float>(want.data(), m, n));
      Context context({.kernels = &device_kernels()});
      const auto layer = Linear::quantize(context, view(w, n, k), format, view(bias, 1, n), exact);
      const OnDevice device_x(x.data(), x.size() * 4), y(want.data(), want.size() * 4);
      layer.forward(context, {device_x.data(), DType::float32, m, k, k},
                    {y.data(), DType::float32, m, n, n});
      context.wait();
      const std::vector<std::byte> bytes = y.bytes();
      float worst = 0.0f;
      for (std::size_t i = 0; i < want.size(); ++i) {
        const float got =
            detail::load_element(bytes.data(), DType::float32, static_cast<std::ptrdiff_t>(i));
        worst = std::max(worst, std::fabs(got - want[i]));
      }
      INFO(to_string(format) << " " << m << "x" << n << "x" << k);
      CHECK(worst < 2e-6f * static_cast<float>(k));
    }
  }
}

TEST_CASE("layers on a device: what it does not multiply is told before anything runs", "[cuda]") {
  Context context({.kernels = &device_kernels()});
  const std::vector<float> w(2 * 100, 1.0f);
  const auto told = [&](WeightFormat format) {
    try {
      (void)Linear::quantize(context, view(w, 2, 100), format);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(told(WeightFormat::nf4).find("no nf4 weights whose blocks of 64") != std::string::npos);
  CHECK(told(WeightFormat::fp8_row).find("no fp8 weights") != std::string::npos);
}

TEST_CASE("layers on a device: NaN and Inf are told when asked, and x must be there", "[cuda]") {
  const std::vector<float> w(12, 1.0f);
  std::vector<float> x = {1, 2, 3, 4, std::numeric_limits<float>::infinity(), 6};
  Context context({.kernels = &device_kernels()});
  Int8Options options;
  options.check_finite = true;
  const auto layer = Int8Linear::quantize(context, view(w, 4, 3), {}, options);
  const OnDevice device_x(x.data(), x.size() * 4), y(w.data(), 32);
  try {
    layer.forward(context, {device_x.data(), DType::float32, 2, 3, 3},
                  {y.data(), DType::float32, 2, 4, 4});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::not_finite);
    CHECK(std::string(error.what()).find("row 1") != std::string::npos);
  }
#if !defined(NDEBUG)
  CHECK_THROWS_AS(layer.forward(context, {x.data(), DType::float32, 2, 3, 3},
                                {y.data(), DType::float32, 2, 4, 4}),
                  Error);
#endif
}

}  // namespace kvant::test
