// s8 x s8 with LLM.int8()'s epilogue to bfloat16: how near to the multiply instruction's own limit,
// and to cuBLASLt's int8 product, which leaves raw int32 sums.

#include <fmt/core.h>

#include <kvant/isa.hpp>
#include <kvant/kernel_table.hpp>
#include <vector>

#include "cuda/ceilings.hpp"
#include "cuda/harness.hpp"
#include "cuda/peer_cublaslt.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

std::vector<std::int8_t> row_of(const std::byte* matrix, std::int64_t row, std::int64_t k) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(k));
  require(cudaMemcpy(codes.data(), matrix + row * k, codes.size(), cudaMemcpyDeviceToHost), "copy");
  return codes;
}

/// A sample of the sums against the definition.
bool is_right(const GemmArgs& g, const std::byte* a, const std::byte* b) {
  for (std::int64_t i = 0; i < 40; ++i) {
    const std::int64_t m = i * 7919 % g.range.m;
    const std::int64_t n = i == 0 ? g.range.n - 1 : i * 104729 % g.range.n;
    const auto x = row_of(a, m, g.range.k_padded), w = row_of(b, n, g.range.k_padded);
    std::int32_t sum = 0, got = 0;
    for (std::size_t k = 0; k < x.size(); ++k) sum += x[k] * w[k];
    require(cudaMemcpy(&got, static_cast<const std::int32_t*>(g.epilogue.y) + m * g.range.n + n, 4,
                       cudaMemcpyDeviceToHost),
            "copy");
    if (got != sum) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Session session(argc, argv, "int8_gemm");
  const auto gemm = kernels_for("cuda").gemm_for(WeightFormat::int8_row).gemm;
  const double ceiling = session.multiply_ceiling();
  fmt::print("ceiling: {:.0f} TOPS, products of random codes from shared memory\n", ceiling);
  const std::int64_t shapes[][3] = {{8192, 8192, 8192}, {4096, 4096, 4096}, {2048, 8192, 8192},
                                    {512, 8192, 8192},  {512, 4096, 4096},  {2048, 4096, 11008}};
  for (const auto& [m, n, k] : shapes) {
    const auto size = [](std::int64_t bytes) { return static_cast<std::size_t>(bytes); };
    const int copies = rotation(size(n * k));
    const DeviceBuffer a(size(m * k)), b(size(n * k * copies)), y(size(m * n * 4)), scales(1 << 16);
    fill_codes(a.data(), a.bytes(), 1, session.stream());
    fill_codes(b.data(), b.bytes(), 2, session.stream());
    require(cudaMemsetAsync(scales.data(), 0x38, scales.bytes(), session.stream()), "scales");
    const auto* const scale = reinterpret_cast<const float*>(scales.data());
    GemmArgs g{};
    g.a = a.data();
    g.b = b.data();
    g.range = {m, n, k, 0, m, 0, n};
    g.epilogue.y = y.data();
    g.epilogue.y_dtype = DType::int32;
    g.epilogue.y_stride = n;
    g.queue = session.stream();
    gemm(g);
    require(cudaStreamSynchronize(session.stream()), "the product");
    const std::string shape = fmt::format("{}x{}x{}", m, n, k);
    if (!is_right(g, a.data(), b.data())) session.wrong(shape);
    const double operations = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
    const int calls = std::max(copies, static_cast<int>(2e12 / operations));
    const auto weights = [&](int i) { return b.data() + i % copies * n * k; };
    const auto product = [&](DType dtype) {
      GemmArgs args = g;
      args.epilogue = {.y = y.data(),
                       .y_dtype = dtype,
                       .y_stride = n,
                       .row_scale = scale,
                       .col_scale = scale,
                       .scale = 1.0f,
                       .bias = scale,
                       .outliers = {},
                       .bias_first = false};
      return [&, args](int i) mutable {
        args.b = weights(i);
        gemm(args);
      };
    };
    std::vector<std::function<void(int)>> entries = {product(DType::bfloat16),
                                                     product(DType::int32)};
    const auto peer = CublasLt::create(PeerType::int8, m, n, k);
    if (peer != nullptr) {
      entries.emplace_back(
          [&](int i) { peer->run(a.data(), weights(i), y.data(), session.stream()); });
    }
    const std::vector<Timing> timings = session.time_by_turns(entries, calls);
    std::vector<std::pair<std::string, double>> peers;
    if (peer != nullptr) peers.emplace_back("cuBLASLt int8", timings[2].us);
    session.add(shape + " to bfloat16", timings[0], operations / timings[0].us * 1e-6, "TOPS",
                ceiling, peers);
    session.add(shape + " to int32", timings[1], operations / timings[1].us * 1e-6, "TOPS", ceiling,
                peers);
  }
  return session.finish();
}
