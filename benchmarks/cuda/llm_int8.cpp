// The whole of LLM.int8(), as Int8Linear::forward puts it on a stream: activations quantized,
// outliers listed, the product with its epilogue. Against cuBLASLt's bfloat16 product, which is
// what a layer costs that is not quantized.

#include <fmt/core.h>

#include <cstring>
#include <kvant/kvant.hpp>
#include <random>
#include <vector>

#include "cuda/ceilings.hpp"
#include "cuda/harness.hpp"
#include "cuda/peer_cublaslt.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

std::vector<std::int8_t> codes_of(std::int64_t count, std::uint32_t seed) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(count));
  std::minstd_rand random(seed);
  for (std::int8_t& c : codes) c = static_cast<std::int8_t>(random() % 255 - 127);
  return codes;
}

/// Puts outliers of magnitude 20 into that many columns of x, one each.
void put_outliers(const DeviceBuffer& x, std::int64_t m, std::int64_t k, int columns) {
  for (int j = 0; j < columns; ++j) {
    const std::uint16_t bits = bfloat16(20.0f).bits;
    const std::int64_t at = j * 7 % m * k + (j * 977 + 5) % k;
    require(cudaMemcpy(x.data() + 2 * at, &bits, 2, cudaMemcpyHostToDevice), "copy");
  }
}

/// The device's y for a few rows is the host's.
bool is_right(Session& session) {
  const std::int64_t m = 5, n = 512, k = 4096;
  const std::vector<std::int8_t> codes = codes_of(n * k, 1);
  const std::vector<float> absmax(static_cast<std::size_t>(n), 0.7f);
  const DeviceBuffer x(static_cast<std::size_t>(m * k * 2)), y(static_cast<std::size_t>(m * n * 2));
  fill_bfloat16(x.data(), x.bytes() / 2, 1.0f, 5, session.stream());
  require(cudaStreamSynchronize(session.stream()), "x");
  put_outliers(x, m, k, 6);
  const MatrixView<const std::int8_t> w(codes.data(), n, k);
  Context device({.isa = "cuda", .cuda_stream = session.stream()});
  Int8Linear::from_codes(device, w, absmax)
      .forward(device, {x.data(), DType::bfloat16, m, k, k}, {y.data(), DType::bfloat16, m, n, n});
  device.wait();
  std::vector<std::byte> host_x(x.bytes()), got(y.bytes()), want(y.bytes());
  require(cudaMemcpy(host_x.data(), x.data(), x.bytes(), cudaMemcpyDeviceToHost), "copy");
  require(cudaMemcpy(got.data(), y.data(), y.bytes(), cudaMemcpyDeviceToHost), "copy");
  Context host;
  Int8Linear::from_codes(host, w, absmax)
      .forward(host, {host_x.data(), DType::bfloat16, m, k, k},
               {want.data(), DType::bfloat16, m, n, n});
  return got == want;
}

void measure(Session& session, std::int64_t n, std::int64_t k) {
  const int copies = rotation(static_cast<std::size_t>(n * k));
  Context context({.isa = "cuda", .cuda_stream = session.stream()});
  const std::vector<float> absmax(static_cast<std::size_t>(n), 0.7f);
  std::vector<Int8Linear> layers;
  for (int i = 0; i < copies; ++i) {
    const auto codes = codes_of(n * k, static_cast<std::uint32_t>(i + 1));
    layers.push_back(
        Int8Linear::from_codes(context, MatrixView<const std::int8_t>(codes.data(), n, k), absmax));
  }
  const auto half_bytes = static_cast<std::size_t>(n * k * 2);
  const DeviceBuffer half_w(half_bytes * static_cast<std::size_t>(copies));
  fill_bfloat16(half_w.data(), half_w.bytes() / 2, 0.02f, 6, session.stream());
  for (const std::int64_t m : {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192}) {
    const DeviceBuffer x(static_cast<std::size_t>(m * k * 2)),
        y(static_cast<std::size_t>(m * n * 2));
    // Nothing beyond 4 deviations: no outliers but those that are put there.
    fill_bfloat16(x.data(), x.bytes() / 2, 1.0f, 7, session.stream());
    require(cudaStreamSynchronize(session.stream()), "x");
    const int calls = std::max(copies, m > 1000 ? 6 : 30);
    // The same rows with outliers in six columns.
    const DeviceBuffer loud_x(x.bytes());
    require(cudaMemcpy(loud_x.data(), x.data(), x.bytes(), cudaMemcpyDeviceToDevice), "copy");
    put_outliers(loud_x, m, k, 6);
    const auto forward = [&](const DeviceBuffer& from) {
      return [&](int i) {
        layers[static_cast<std::size_t>(i % copies)].forward(
            context, {from.data(), DType::bfloat16, m, k, k}, {y.data(), DType::bfloat16, m, n, n});
      };
    };
    std::vector<std::function<void(int)>> entries = {forward(x), forward(loud_x)};
    const auto peer = CublasLt::create(PeerType::bf16, m, n, k);
    if (peer != nullptr) {
      entries.emplace_back([&](int i) {
        peer->run(x.data(), half_w.data() + static_cast<std::size_t>(i % copies) * half_bytes,
                  y.data(), session.stream());
      });
    }
    const std::vector<Timing> timings = session.time_by_turns(entries, calls);
    std::vector<std::pair<std::string, double>> peers;
    if (peer != nullptr) peers.emplace_back("cuBLASLt bf16", timings[2].us);
    const double operations = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
    for (int i = 0; i < 2; ++i) {
      const Timing& timing = timings[static_cast<std::size_t>(i)];
      session.add(fmt::format("M={} {}x{}, {} outlier columns", m, n, k, 6 * i), timing,
                  operations / timing.us * 1e-6, "TOPS", 0, peers);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  Session session(argc, argv, "llm_int8");
  if (!is_right(session)) session.wrong("5 rows, 512x4096, 6 outlier columns");
  measure(session, 4096, 4096);
  measure(session, 8192, 8192);
  return session.finish();
}
