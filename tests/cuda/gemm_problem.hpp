#pragma once

// A product with everything that an epilogue can have, for the CUDA kernels one by one on the
// emulated device, and the scalar kernel set's answer to it.

#include <cstring>
#include <memory>
#include <string>

#include "cuda/gemm.hpp"
#include "kvant/float_element.hpp"
#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {  // as the kernels are

struct GemmShape {
  std::int64_t m, n, k;
  std::int64_t kept = 0, found = 0;
  DType y = DType::float32;
  bool bias_first = false;
  bool from_x = false;  ///< found features are not gathered, their number is on the device
};

class GemmProblem {
 public:
  explicit GemmProblem(const GemmShape& s)
      : shape_(s),
        k_padded_((s.k + 127) / 128 * 128),
        a_(bytes(s.m)),
        b_(bytes(s.n)),
        x_(static_cast<std::size_t>(s.m * s.k)),
        y_(static_cast<std::size_t>(s.m * s.n * size())) {
    std::mt19937_64 generator(test_seed());
    for (const auto& [matrix, rows] : {std::pair{&a_, s.m}, {&b_, s.n}}) {
      std::memset(matrix->data(), 0, matrix->size());
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto codes = random_codes(generator, s.k);
        std::copy(codes.begin(), codes.end(), matrix->data() + r * k_padded_);
      }
    }
    row_scale_ = random_floats(generator, s.m, 0.02f);
    col_scale_ = random_floats(generator, s.n, 0.02f);
    bias_ = random_floats(generator, s.n);
    kept_x_ = random_floats(generator, s.m * s.kept, 20.0f);
    kept_w_.resize(static_cast<std::size_t>(s.n * s.kept));
    for (std::uint16_t& w : kept_w_) w = detail::float_to_half_bits(random_floats(generator, 1)[0]);
    for (std::int64_t j = 0; j < s.found; ++j) columns_.push_back(j * s.k / s.found);
    const auto x = random_floats(generator, s.m * s.k, 5.0f);
    std::copy(x.begin(), x.end(), x_.data());
    found_x_.resize(static_cast<std::size_t>(s.m * s.found));
    for (std::int64_t j = 0; j < s.found; ++j) {
      for (std::int64_t m = 0; m < s.m; ++m) {
        const float value =
            x_[static_cast<std::size_t>(m * s.k + columns_[static_cast<std::size_t>(j)])];
        found_x_[static_cast<std::size_t>(j * s.m + m)] =
            std::fabs(value) >= kThreshold ? value : 0;
      }
    }
    count_ = s.found;
  }

  virtual ~GemmProblem() = default;
  GemmProblem(const GemmProblem&) = delete;
  GemmProblem& operator=(const GemmProblem&) = delete;

  [[nodiscard]] virtual GemmArgs args() {
    const GemmShape& s = shape_;
    GemmArgs g{};
    g.a = a_.data();
    g.b = b_.data();
    g.range = {s.m, s.n, k_padded_, 0, s.m, 0, s.n};
    g.columns = {columns_.data(), col_scale_.data(), s.bias_first ? 1.0f / 127.0f : 1.0f,
                 s.bias_first ? s.y : DType::float32};
    g.epilogue = {
        .y = y_.data(),
        .y_dtype = s.y,
        .y_stride = s.n,
        .row_scale = row_scale_.data(),
        .col_scale = col_scale_.data(),
        .scale = s.bias_first ? 6.200124e-05f : 1.0f,
        .bias = bias_.data(),
        .outliers = {{kept_x_.data(), s.m, kept_w_.data(), s.kept, DType::float16, s.kept},
                     {found_x_.data(), s.m, nullptr, 0, DType::float32, s.found}},
        .bias_first = s.bias_first};
    return g;
  }
  [[nodiscard]] GemmLaunch launch() {
    GemmLaunch l = whole_launch(args());
    if (shape_.from_x) {
      OutlierBlock& found = l.args.epilogue.outliers.found;
      found.x = nullptr;
      found.count = shape_.k;
      found.count_at = &count_;
      l.args.x = {x_.data(), DType::float32, shape_.m, shape_.k, shape_.k};
      l.args.threshold = kThreshold;
    }
    std::memset(y_.data(), 0xEE, y_.size());
    return l;
  }
  [[nodiscard]] std::string y() const {
    return {reinterpret_cast<const char*>(y_.data()), y_.size()};
  }
  /// The scalar set's y.
  [[nodiscard]] virtual std::string want() {
    GemmArgs g = args();
    kernels_for("scalar").gemm_for(WeightFormat::int8_row).gemm(g);
    return y();
  }

 protected:
  [[nodiscard]] const GemmShape& shape() const { return shape_; }

 private:
  static constexpr float kThreshold = 6.0f;
  [[nodiscard]] std::size_t bytes(std::int64_t rows) const {
    return static_cast<std::size_t>(rows * k_padded_);
  }
  [[nodiscard]] std::int64_t size() const { return dtype_bytes(shape_.y); }

  GemmShape shape_;
  std::int64_t k_padded_;
  GuardedBuffer<std::int8_t> a_, b_;
  GuardedBuffer<float> x_;
  GuardedBuffer<std::uint8_t> y_;
  std::vector<float> row_scale_{}, col_scale_{}, bias_{}, kept_x_{}, found_x_{};
  std::vector<std::uint16_t> kept_w_{};
  std::vector<std::int64_t> columns_{};
  std::int64_t count_ = 0;
};

/// One kernel by its name.
struct GemmKernelCase {
  const char* name;
  void (*launch)(const GemmLaunch&);
  std::int64_t most_rows;
  int feeding_thread;
};

inline constexpr int kEmulatedProcessors = 4;

inline constexpr GemmKernelCase kGemmKernelCases[] = {
    {"decode, 16 outputs", [](const GemmLaunch& g) { launch_decode<DecodeTile<1>>(g, nullptr); }, 8,
     -1},
    {"decode, 32 outputs", [](const GemmLaunch& g) { launch_decode<DecodeTile<2>>(g, nullptr); }, 8,
     -1},
    {"mma, small tile", [](const GemmLaunch& g) { launch_gemm_mma<SmallMmaTile>(g, nullptr); },
     4096, -1},
    {"mma, large tile", [](const GemmLaunch& g) { launch_gemm_mma<LargeMmaTile>(g, nullptr); },
     4096, -1},
    {"wgmma, small tile",
     [](const GemmLaunch& g) {
       launch_gemm_wgmma<SmallWgmmaTile>(g, kEmulatedProcessors, nullptr);
     },
     4096, 0},
    {"wgmma, pairs of large tiles",
     [](const GemmLaunch& g) {
       launch_gemm_wgmma<LargeWgmmaTile>(g, kEmulatedProcessors, nullptr);
     },
     4096, 0},
    {"stream, 8 rows",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<8, 12>>(g, 1, nullptr); }, 8, 128},
    {"stream, 16 rows, K by 2",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<16, 8>>(g, 2, nullptr); }, 16, 128},
    {"stream, 32 rows, K by 4",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<32, 8>>(g, 4, nullptr); }, 32, 128},
    {"stream, 64 rows",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<64, 6>>(g, 1, nullptr); }, 64, 128},
    {"stream, 128 rows, K by 8",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<128, 4>>(g, 8, nullptr); }, 128, 128},
    {"stream, 256 rows, K by 2",
     [](const GemmLaunch& g) { launch_stream_wgmma<StreamTile<256, 4>>(g, 2, nullptr); }, 256, 128},
};

}  // namespace
}  // namespace kvant::test
