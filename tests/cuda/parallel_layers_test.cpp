// Layers shared by ranks, here threads, on one device: the bits of one process. Runs on the
// emulated device, and on a real one where there is one.

#include <cstring>
#include <stdexcept>

#include "cuda/device_under_test.hpp"
#include "kvant/context.hpp"
#include "kvant/float_element.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/parallel_linear.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/thread_ranks.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

/// A matrix on the device, of rows `gap` elements further apart than they are long.
class DeviceMatrix {
 public:
  DeviceMatrix(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t gap)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        dtype_(dtype),
        host_(static_cast<std::size_t>(rows * stride_ * describe(dtype).bits / 8), std::byte{0xEE}),
        data_(memory_.allocate(host_.size() + 1)) {
    put();
  }
  /// Columns of a matrix of floats.
  DeviceMatrix(DType dtype, MatrixView<const float> values, std::int64_t gap)
      : DeviceMatrix(dtype, values.rows(), values.cols(), gap) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) {
        detail::store_element(host_.data(), dtype, r * stride_ + c, values(r, c));
      }
    }
    put();
  }
  ~DeviceMatrix() { memory_.release(data_, host_.size() + 1); }
  DeviceMatrix(const DeviceMatrix&) = delete;
  DeviceMatrix& operator=(const DeviceMatrix&) = delete;

  [[nodiscard]] AnyMatrix view() const { return {data_, dtype_, rows_, cols_, stride_}; }
  /// Its elements, and that there is nothing new between the rows.
  [[nodiscard]] std::vector<float> values() {
    const std::vector<std::byte> before = host_;
    if (!host_.empty()) {
      require(memory_.copy(host_.data(), data_, host_.size(), CopyKind::to_host, nullptr));
    }
    std::vector<float> found;
    const std::int64_t size = describe(dtype_).bits / 8;
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < stride_; ++c) {
        const std::int64_t i = r * stride_ + c;
        if (c < cols_) {
          found.push_back(detail::load_element(host_.data(), dtype_, i));
        } else {
          require(std::memcmp(host_.data() + i * size, before.data() + i * size,
                              static_cast<std::size_t>(size)) == 0);
        }
      }
    }
    return found;
  }

 private:
  /// (Ranks are threads, in which Catch2 checks nothing.)
  static void require(bool held) {
    if (!held) throw std::runtime_error("DeviceMatrix: a copy was refused, or a gap written to");
  }
  void put() {
    if (host_.empty()) return;
    require(memory_.copy(data_, host_.data(), host_.size(), CopyKind::to_device, nullptr));
  }

  const Memory& memory_ = *device_kernels().memory;
  std::int64_t rows_, cols_, stride_;
  DType dtype_;
  std::vector<std::byte> host_;
  void* data_;
};

struct ParallelCase {
  WeightFormat format;
  std::int64_t m, n, k;
  DType x = DType::float32, y = DType::float32;
  std::int64_t gap = 0;
  int ranks = 2;
};

}  // namespace

TEST_CASE("layers on devices by several ranks: the bits of one process", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  const DType f16 = DType::float16, bf16 = DType::bfloat16;
  const ParallelCase cases[] = {
      {WeightFormat::int8_row, 1, 70, 300},
      {WeightFormat::int8_row, 7, 200, 257, bf16, bf16, 3, 3},
      {WeightFormat::int8_row, 5, 1, 64, f16, f16},      // a rank without outputs
      {WeightFormat::int8_row, 3, 90, 1, bf16, f16, 1},  // a rank without inputs
      {WeightFormat::int4_group, 6, 130, 256, bf16, bf16},
      {WeightFormat::nf4, 1, 128, 256, bf16, bf16, 0, 1},
      {WeightFormat::bfloat16, 9, 130, 192, bf16, bf16, 2, 3},
  };
  for (const ParallelCase& c : cases) {
    INFO(describe(c.format).name << " [" << c.m << ", " << c.n << ", " << c.k << "] by "
                                 << c.ranks);
    const std::vector<float> w = random_floats(generator, c.n * c.k);
    const std::vector<float> bias = random_floats(generator, c.n);
    std::vector<float> x = random_floats(generator, c.m * c.k);
    x[static_cast<std::size_t>(c.k / 2)] = 40;  // an outlier
    const auto layer_of = [&](auto&& quantize) {
      return quantize(view(w, c.n, c.k), view(bias, 1, c.n));
    };
    Context alone({.kernels = &device_kernels()});
    DeviceMatrix wanted(c.y, c.m, c.n, 0);
    {
      const DeviceMatrix whole(c.x, view(x, c.m, c.k), 0);
      layer_of([&](ConstAnyMatrix weights, ConstAnyMatrix row) {
        return Linear::quantize(alone, weights, c.format, row);
      }).forward(alone, whole.view(), wanted.view());
      alone.wait();
    }
    const std::vector<float> want = wanted.values();
    std::vector<std::vector<float>> found(static_cast<std::size_t>(c.ranks));
    run_ranks(c.ranks, [&](Ranks& ranks) {
      Context context({.kernels = &device_kernels()});
      const auto layer = layer_of([&](ConstAnyMatrix weights, ConstAnyMatrix row) {
        return RowParallelLinear::quantize(ranks, context, weights, c.format, row);
      });
      const MatrixView<const float> own(x.data() + layer.inputs().begin, c.m, layer.inputs().size(),
                                        c.k);
      const DeviceMatrix mine(c.x, own, c.gap);
      DeviceMatrix y(c.y, c.m, c.n, c.gap);
      for (int again = 0; again < 2; ++again) layer.forward(context, mine.view(), y.view());
      context.wait();
      found[static_cast<std::size_t>(ranks.rank())] = y.values();
    });
    for (const std::vector<float>& each : found) CHECK(each == want);
  }
}

TEST_CASE("layers on devices by several ranks: what does not fit together is refused", "[cuda]") {
  const std::vector<float> w(64 * 64, 0.5f);
  const std::vector<float> x(2 * 64, 1.0f);
  // On a device of one rank, and on the host of the other.
  CHECK_THAT(message_of(
                 [&] {
                   run_ranks(2, [&](Ranks& ranks) {
                     Context context(ranks.rank() == 0
                                         ? ContextOptions{}
                                         : ContextOptions{.kernels = &device_kernels()});
                     (void)RowParallelLinear::quantize(ranks, context, view(w, 64, 64),
                                                       WeightFormat::int8_row);
                   });
                 },
                 ErrorCode::unsupported),
             Catch::Matchers::Contains("on a device on some ranks and on the host on others"));
  {
    ThreadJob job(1);
    ThreadRanks ranks(job, 0);
    Context host;
    Context device({.kernels = &device_kernels()});
    const auto on = [&](Context& context) {
      return RowParallelLinear::quantize(ranks, context, view(w, 64, 64), WeightFormat::int8_row);
    };
    const RowParallelLinear there = on(device);
    const RowParallelLinear here = on(host);
    std::vector<float> y(2 * 64);
    const AnyMatrix result = MatrixView<float>(y.data(), 2, 64);
    CHECK_THAT(
        message_of([&] { there.forward(host, view(x, 2, 64), result); }, ErrorCode::unsupported),
        Catch::Matchers::Contains("the weights are on devices"));
    CHECK_THAT(
        message_of([&] { here.forward(device, view(x, 2, 64), result); }, ErrorCode::unsupported),
        Catch::Matchers::Contains("the weights are on the host"));
    const DeviceMatrix one(DType::float32, view(x, 2, 64), 0);
    const DeviceMatrix to(DType::float32, 2, 64, 0);
    ConstAnyMatrix upwards = one.view();
    upwards.stride = -64;
    CHECK_THAT(
        message_of([&] { there.forward(device, upwards, to.view()); }, ErrorCode::unsupported),
        Catch::Matchers::Contains("row stride -64"));
    CHECK(code_of([&] {
            there.forward(device, {one.view().data, DType::float32, 2, 63, 64}, to.view());
          }) == ErrorCode::shape_mismatch);
    const std::vector<std::uint16_t> halves(2 * 64);
    CHECK_THAT(message_of(
                   [&] {
                     here.forward(host, {halves.data(), DType::bfloat16, 2, 64, 64}, result);
                   },
                   ErrorCode::unsupported),
               Catch::Matchers::Contains("on the host both must be float32"));
  }
}

}  // namespace kvant::test
