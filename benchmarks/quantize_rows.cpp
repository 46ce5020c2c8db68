// The activation pass alone: codes, absmax and outlier columns in one read, activations from
// memory, codes into a reused buffer. The figure counts bytes read; ceiling: the best streaming
// read.

#include <algorithm>
#include <limits>

#include "harness/entries.hpp"
#include "harness/machine.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv, "quantize_rows",
                                        "quantizing activations against the streaming read");
  const std::string isa(Context().isa());
  Report report(options, isa);
  const KernelTable& kernels = kernels_for();
  for (const Shape& s : options.shapes) {
    for (const DType dtype : {DType::bfloat16, DType::float32}) {
      const std::int64_t bytes = s.m * s.k * describe(dtype).bits / 8;
      const std::int64_t ring = std::max<std::int64_t>(2, cold_bytes() / bytes + 1);
      const AlignedArray<std::byte> data(static_cast<std::size_t>(ring * bytes));
      {
        const auto values = normal_floats(s.m * s.k, 1);
        std::vector<std::byte> one(static_cast<std::size_t>(bytes));
        kernels.convert({values.data(), DType::float32, one.data(), dtype, s.m * s.k});
        for (std::int64_t i = 0; i < ring; ++i) {
          std::copy(one.begin(), one.end(), const_cast<std::byte*>(data.data()) + i * bytes);
        }
      }
      const std::int64_t k_padded = kernels.gemm_for(WeightFormat::int8_row).layout.padded_k(s.k);
      const std::int64_t stride = k_padded + 64;
      const std::int64_t block =
          kernels.gemm_for(WeightFormat::int8_row).mr;  // rows that a layer quantizes together
      for (const int threads : options.threads) {
        AlignedArray<std::byte> codes(static_cast<std::size_t>(threads * stride * block));
        AlignedArray<float> absmax(static_cast<std::size_t>(s.m));
        AlignedArray<std::uint8_t> flags(static_cast<std::size_t>(threads * s.k), std::uint8_t{0});
        auto at = std::make_shared<std::int64_t>(0);
        const auto executor = openmp_executor(threads);
        const auto run = [&, at] {
          const std::byte* x = data.data() + *at * bytes;
          *at = (*at + 1) % ring;
          executor->parallel_for(threads, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t t = begin; t < end; ++t) {
              const std::int64_t last = s.m * (t + 1) / threads;
              for (std::int64_t r = s.m * t / threads; r < last; r += block) {
                kernels.quantize_rows(
                    {.x = {x + r * s.k * describe(dtype).bits / 8, dtype, std::min(block, last - r),
                           s.k, s.k},
                     .bitsandbytes = false,
                     .threshold = 6.0f,
                     .keep_mask = nullptr,
                     .given_absmax = nullptr,
                     .codes = codes.data() + t * block * stride,
                     .format = kernels.gemm_for(WeightFormat::int8_row).activations,
                     .code_stride = stride,
                     .k_padded = k_padded,
                     .absmax = absmax.data() + r,
                     .outlier_columns = flags.data() + t * s.k});
              }
            }
          });
        };
        std::vector<Entry> entries = {{"kvant", 1e-9 * static_cast<double>(bytes), run}};
        add_streams(entries, data.data(), bytes, ring, threads);
        const std::vector<Figure> figures = race(entries, options.quick);
        if (!(absmax[0] > 1.0f && absmax[0] < 6.0f)) report.wrong("quantize_rows: absmax");
        Record record{.question = "quantize_rows",
                      .m = s.m,
                      .n = s.n,
                      .k = s.k,
                      .threads = threads,
                      .isa = isa,
                      .dtype = std::string(to_string(dtype)),
                      .unit = "GB/s"};
        record.value = figures[0];
        for (std::size_t i = 1; i < figures.size(); ++i)
          record.ceiling = std::max(record.ceiling, figures[i].value);
        report.add(record);
      }
    }
  }
  return report.finish();
}
