// The float products of every kernel set, the emulated ones too, against sums in double: float32,
// float16 and bfloat16 weights, every edge of the register tile.

#include <set>

#include "formats/rules.hpp"
#include "kernels/kernel_sets.hpp"
#include "kvant/float_element.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/catch.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

namespace kvant::test {

TEST_CASE("float gemm: sums in float32, for every kernel set") {
  for (const KernelTable* table : kernel_sets()) {
    for (const WeightFormat format :
         {WeightFormat::float32, WeightFormat::float16, WeightFormat::bfloat16}) {
      const GemmKernels& kernels = table->gemm_for(format);
      if (format == WeightFormat::float16 && table->memory != nullptr) continue;
      REQUIRE(kernels.gemm != nullptr);
      std::mt19937_64 generator(test_seed());
      const std::int64_t nr = kernels.layout.nr;
      for (const std::int64_t m :
           {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{kernels.mr},
            std::int64_t{kernels.mr + 1}, std::int64_t{2 * kernels.mr + 3}}) {
        for (const std::int64_t n : std::set<std::int64_t>{1, nr, nr + 1, 4 * nr + 3}) {
          for (const std::int64_t k : {1, 2, 7, 64}) {
            std::vector<float> x = random_floats(generator, m * k);
            std::vector<float> w = random_floats(generator, n * k);
            const DType type = describe(format).codes;
            for (float& v : x) v = detail::round_to(type, v);
            for (float& v : w) v = detail::round_to(type, v);
            const std::vector<float> bias = random_floats(generator, kernels.layout.padded_n(n));
            // The weights, packed.
            const std::int64_t size = describe(type).bits / 8;
            std::vector<std::byte> rows(static_cast<std::size_t>(n * k * size));
            for (std::size_t i = 0; i < w.size(); ++i) {
              detail::store_element(rows.data(), type, static_cast<std::ptrdiff_t>(i), w[i]);
            }
            detail::PackedWeightsBuilder builder("test", *table, format, n, k, 0);
            builder.pack_rows(0, rows.data(), n, k * size);
            const auto packed = builder.finish();
            // The activations, in blocks.
            const RowBlocks blocks = kernels.blocks(m);
            const std::int64_t element = element_bytes(kernels.activations);
            const std::int64_t row_bytes = packed->k_padded * element;
            GuardedBuffer<std::byte> a(static_cast<std::size_t>(m * row_bytes + kActivationSlack));
            std::fill_n(a.data(), m * row_bytes, std::byte{0});
            for (std::int64_t b = 0; b < blocks.count(); ++b) {
              for (std::int32_t r = 0; r < blocks.rows(b); ++r) {
                for (std::int64_t i = 0; i < k * element; ++i) {
                  const float value =
                      x[static_cast<std::size_t>((blocks.first(b) + r) * k + i / element)];
                  std::byte bytes[4];
                  detail::store_element(bytes, element == 2 ? DType::bfloat16 : DType::float32, 0,
                                        value);
                  a[static_cast<std::size_t>(blocks.first(b) * row_bytes +
                                             blocks.offset(blocks.rows(b), r, i))] =
                      bytes[i % element];
                }
              }
            }
            const GuardedBuffer<float> y(static_cast<std::size_t>(m * n));
            GemmArgs args{};
            args.a = a.data();
            args.b = packed->codes.data();
            args.range = {.m = m,
                          .n = n,
                          .k_padded = packed->k_padded,
                          .block_end = blocks.count(),
                          .panel_end = packed->layout().panels(n)};
            args.epilogue.y = y.data();
            args.epilogue.y_dtype = DType::float32;
            args.epilogue.y_stride = n;
            args.epilogue.bias = bias.data();
            kernels.gemm(args);
            for (std::int64_t i = 0; i < m * n; ++i) {
              double want = bias[static_cast<std::size_t>(i % n)];
              double bound = std::abs(want);
              for (std::int64_t p = 0; p < k; ++p) {
                const double product = double{x[static_cast<std::size_t>(i / n * k + p)]} *
                                       w[static_cast<std::size_t>(i % n * k + p)];
                want += product;
                bound += std::abs(product);
              }
              INFO(table->name << " " << to_string(format) << " " << m << "x" << n << "x" << k);
              REQUIRE(std::abs(y[static_cast<std::size_t>(i)] - want) <= bound * 1e-6);
            }
          }
        }
      }
    }
  }
}

}  // namespace kvant::test
