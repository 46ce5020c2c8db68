// list_outliers and gather_features of every kernel set against their definitions.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernel_sets.hpp"
#include "kvant/float_element.hpp"
#include "support/catch.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

namespace kvant::test {

TEST_CASE("list_outliers: the union of all tasks, ascending; listed columns leave the codes") {
  for (const KernelTable* table : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t cols : {1, 5, 64, 131}) {
      for (const std::int64_t tasks : {1, 3}) {
        for (const std::int64_t m : {1, 2, 8, 13}) {
          for (const ActivationFormat format :
               {ActivationFormat::s8, ActivationFormat::u8_offset}) {
            for (const std::uint64_t every : {1u, 7u, 1000000u}) {
              GuardedBuffer<std::uint8_t> flags(static_cast<std::size_t>(tasks * cols));
              for (std::size_t i = 0; i < flags.size(); ++i) {
                flags[i] = generator() % every == 0 ? 1 : 0;
              }
              std::vector<std::int64_t> want;
              for (std::int64_t c = 0; c < cols; ++c) {
                bool any = false;
                for (std::int64_t t = 0; t < tasks; ++t) {
                  any = any || flags[static_cast<std::size_t>(t * cols + c)] != 0;
                }
                if (any) want.push_back(c);
              }
              const std::int64_t k_padded = (cols + 63) / 64 * 64;
              const RowBlocks blocks{m, 6};
              GuardedBuffer<std::uint8_t> codes(static_cast<std::size_t>(m * k_padded));
              std::fill_n(codes.data(), m * k_padded, std::uint8_t{77});
              std::vector<std::int64_t> columns(static_cast<std::size_t>(cols), -1);
              std::int64_t count = -1;
              table->list_outliers({.flags = flags.data(),
                                    .tasks = tasks,
                                    .cols = cols,
                                    .columns = columns.data(),
                                    .count = &count,
                                    .codes = codes.data(),
                                    .format = format,
                                    .blocks = blocks,
                                    .k_padded = k_padded});
              INFO(table->name << " cols " << cols << " tasks " << tasks << " every " << every);
              REQUIRE(count == static_cast<std::int64_t>(want.size()));
              REQUIRE(std::equal(want.begin(), want.end(), columns.begin()));
              const std::uint8_t zero = format == ActivationFormat::u8_offset ? 128 : 0;
              for (std::int64_t b = 0; b < blocks.count(); ++b) {
                for (std::int32_t r = 0; r < blocks.rows(b); ++r) {
                  for (std::int64_t k = 0; k < k_padded; ++k) {
                    const bool listed = std::binary_search(want.begin(), want.end(), k);
                    REQUIRE(codes[static_cast<std::size_t>(blocks.first(b) * k_padded +
                                                           blocks.offset(blocks.rows(b), r, k))] ==
                            (listed ? zero : 77));
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("gather_features: feature by feature, what is below the threshold or NaN as 0") {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {1.0f, -7.0f, inf,  6.0f,    //
                                nan,  5.5f,  -inf, -6.25f,  //
                                6.5f, 0.0f,  nan,  -0.0f};
  const std::vector<std::int64_t> columns = {0, 2, 3};
  for (const KernelTable* table : kernel_sets()) {
    for (const DType type : {DType::float32, DType::float16, DType::bfloat16}) {
      std::vector<std::byte> bytes(x.size() * 4);
      for (std::size_t i = 0; i < x.size(); ++i) {
        detail::store_element(bytes.data(), type, static_cast<std::ptrdiff_t>(i), x[i]);
      }
      for (const float threshold : {0.0f, 6.0f, inf}) {
        const GuardedBuffer<float> to(9);
        table->gather_features(
            {{bytes.data(), type, 3, 4, 4}, columns.data(), 3, threshold, to.data()});
        for (std::size_t j = 0; j < 3; ++j) {
          for (std::size_t r = 0; r < 3; ++r) {
            const float value = x[r * 4 + static_cast<std::size_t>(columns[j])];
            const bool taken = threshold == 0.0f || std::abs(value) >= threshold;
            const float got = to[j * 3 + r];
            INFO(table->name << " " << to_string(type) << " threshold " << threshold);
            if (taken && value != value) {
              CHECK(got != got);
            } else {
              CHECK(got == (taken ? value : 0.0f));
            }
          }
        }
      }
    }
  }
}

}  // namespace kvant::test
