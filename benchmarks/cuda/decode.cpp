// The int8 product of one to eight rows: how near to a streaming read of the weights.

#include <fmt/core.h>

#include <kvant/isa.hpp>
#include <kvant/kernel_table.hpp>

#include "cuda/ceilings.hpp"
#include "cuda/harness.hpp"
#include "cuda/peer_cublaslt.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  Session session(argc, argv, "decode");
  const auto gemm = kernels_for("cuda").gemm_for(WeightFormat::int8_row).gemm;
  const std::int64_t shapes[][2] = {{4096, 4096}, {8192, 8192}, {8192, 21760}, {28672, 8192}};
  for (const auto& [n, k] : shapes) {
    const auto bytes = static_cast<std::size_t>(n * k);
    const double read = session.read_ceiling(bytes);
    fmt::print("a streaming read of {} MB: {:.2f} TB/s\n", bytes / 1000000, read);
    const int copies = rotation(bytes);
    const DeviceBuffer w(bytes * static_cast<std::size_t>(copies)), x(8 * 32768), y(8 * 65536 * 4),
        scales(1 << 18);
    fill_codes(w.data(), w.bytes(), 3, session.stream());
    fill_codes(x.data(), x.bytes(), 4, session.stream());
    require(cudaMemsetAsync(scales.data(), 0x38, scales.bytes(), session.stream()), "scales");
    const auto* const scale = reinterpret_cast<const float*>(scales.data());
    for (const std::int64_t m : {1, 2, 4, 8}) {
      GemmArgs g{};
      g.a = x.data();
      g.range = {m, n, k, 0, m, 0, n};
      g.epilogue = {.y = y.data(),
                    .y_dtype = DType::bfloat16,
                    .y_stride = n,
                    .row_scale = scale,
                    .col_scale = scale,
                    .scale = 1.0f,
                    .bias = scale,
                    .outliers = {},
                    .bias_first = false};
      g.queue = session.stream();
      const Timing timing = session.time(
          [&](int i) {
            g.b = w.data() + static_cast<std::size_t>(i % copies) * bytes;
            gemm(g);
          },
          std::max(copies, 20));
      session.add(fmt::format("M={} {}x{}", m, n, k), timing,
                  static_cast<double>(bytes) / timing.us * 1e-6, "TB/s", read);
    }
  }
  return session.finish();
}
