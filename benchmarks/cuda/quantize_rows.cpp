// Rows of bfloat16 to int8 by their own absmax: bytes read and written against a streaming read.

#include <fmt/core.h>

#include <kvant/isa.hpp>
#include <kvant/kernel_table.hpp>
#include <limits>

#include "cuda/ceilings.hpp"
#include "cuda/harness.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  Session session(argc, argv, "quantize_rows");
  const KernelTable& kernels = kernels_for("cuda");
  for (const std::int64_t k : {4096, 8192}) {
    for (const std::int64_t m : {1, 64, 512, 8192, 32768}) {
      const auto elements = static_cast<std::size_t>(m * k);
      const int copies = rotation(elements * 3);
      const auto all = elements * static_cast<std::size_t>(copies);
      const DeviceBuffer x(all * 2), codes(all), absmax(static_cast<std::size_t>(m * 4)),
          flags(static_cast<std::size_t>(k));
      fill_bfloat16(x.data(), all, 1.0f, 5, session.stream());
      const Timing timing = session.time(
          [&](int i) {
            const std::size_t at = static_cast<std::size_t>(i % copies) * elements;
            kernels.quantize_rows({.x = {x.data() + at * 2, DType::bfloat16, m, k, k},
                                   .bitsandbytes = false,
                                   .threshold = 6.0f,
                                   .keep_mask = nullptr,
                                   .given_absmax = nullptr,
                                   .codes = codes.data() + at,
                                   .format = ActivationFormat::s8,
                                   .code_stride = k,
                                   .k_padded = k,
                                   .absmax = reinterpret_cast<float*>(absmax.data()),
                                   .outlier_columns = reinterpret_cast<std::uint8_t*>(flags.data()),
                                   .queue = session.stream()});
          },
          std::min(std::max(copies, 10), 40));
      const double bytes = 3.0 * static_cast<double>(elements);
      session.add(
          fmt::format("{}x{} bf16", m, k), timing, bytes / timing.us * 1e-6, "TB/s",
          bytes > 16e6 ? session.read_ceiling(static_cast<std::size_t>(bytes) / 256 * 256) : 0);
    }
  }
  return session.finish();
}
