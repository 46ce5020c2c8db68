// The int8 GEMM of every kernel set against the definition: exact, for every code, at every edge of
// the register tile.

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "kernels/gemm_cases.hpp"
#include "kernels/kernel_sets.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

void check_exact(const KernelTable& kernels, const GemmCase& c) {
  const std::string difference = first_difference(run_gemm(kernels, c), reference_gemm(c), c.n);
  INFO(kernels.name << " " << c.shape() << " seed " << test_seed() << ": " << difference);
  CHECK(difference.empty());
}

GemmCase filled(std::int64_t m, std::int64_t n, std::int64_t k, int a, int b) {
  return {m, n, k,
          std::vector<std::int8_t>(static_cast<std::size_t>(m * k), static_cast<std::int8_t>(a)),
          std::vector<std::int8_t>(static_cast<std::size_t>(n * k), static_cast<std::int8_t>(b))};
}

}  // namespace

TEST_CASE("gemm: shapes from the tile of each kernel set") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    std::set<std::int64_t> ms;
    const std::int64_t mr = int8_of(*kernels).mr;
    for (std::int64_t m = 1; m <= mr + 1; ++m) ms.insert(m);
    ms.insert({2 * mr - 1, 2 * mr, 2 * mr + 1, 16, 17, 33});
    const std::int64_t nr = int8_of(*kernels).layout.nr;
    const std::set<std::int64_t> ns = {
        1, 2, 7, nr - 1 > 0 ? nr - 1 : 1, nr, nr + 1, 4 * nr - 1, 4 * nr, 5 * nr + 3};
    for (const std::int64_t m : ms) {
      for (const std::int64_t n : ns) {
        for (const std::int64_t k : {1, 3, 64, 65, 97}) {
          check_exact(*kernels,
                      {m, n, k, random_codes(generator, m * k), random_codes(generator, n * k)});
        }
      }
    }
  }
}

TEST_CASE("gemm: every K that leaves a remainder, deep K, odd M and N") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t k :
         {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 1024, 4096}) {
      for (const std::int64_t m : {1, 2, 3, 5, 16, 17}) {
        check_exact(*kernels,
                    {m, 19, k, random_codes(generator, m * k), random_codes(generator, 19 * k)});
      }
    }
  }
}

TEST_CASE("gemm: many row blocks, by chunks of K where a set has them") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    const std::int64_t mr = int8_of(*kernels).mr;
    const std::int64_t n = int8_of(*kernels).layout.nr + 3;
    for (const auto& [m, k] :
         {std::pair{10 * mr - 3, std::int64_t{600}}, {5 * mr - 1, 8300}, {2 * mr + 1, 0}}) {
      check_exact(*kernels,
                  {m, n, k, random_codes(generator, m * k), random_codes(generator, n * k)});
    }
  }
}

TEST_CASE("gemm: extremes do not saturate") {
  for (const KernelTable* kernels : kernel_sets()) {
    for (const std::int64_t k : {1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1024, 4096}) {
      for (const auto& [a, b] :
           {std::pair{-128, -128}, {127, -128}, {-128, 127}, {127, 127}, {127, -127}}) {
        check_exact(*kernels, filled(3, 17, k, a, b));
      }
    }
    // The pair that vpmaddubsw would saturate: 211 * 71 + 171 * 107 = 33278 as unsigned codes.
    check_exact(*kernels, {1, 1, 2, {211 - 128, 171 - 128}, {71, 107}});
    // The longest K whose extreme sum fits int32.
    check_exact(*kernels, filled(1, 1, kMaxInnerDimension, -128, -128));
    check_exact(*kernels, filled(2, 3, kMaxInnerDimension, 127, -128));
    // Offset codes pass int32 on the way, with pairs to be cut everywhere or nowhere.
    check_exact(*kernels, filled(1, 1, kMaxInnerDimension, 127, 127));
    check_exact(*kernels, filled(3, 1, kMaxInnerDimension, 127, 127));
    check_exact(*kernels, filled(3, 1, kMaxInnerDimension, 64, 127));
  }
}

TEST_CASE("gemm: codes as they occur, whose pairs rarely pass the limit, and any mixture") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    for (const auto& [m, n, k] : {std::tuple{1, 100, 256},
                                  {2, 33, 130},
                                  {3, 49, 77},
                                  {6, 16, 1024},
                                  {8, 48, 512},
                                  {13, 200, 300}}) {
      GemmCase c{m, n, k, {}, {}};
      std::normal_distribution<float> normal(0.0f, 30.0f);
      const auto code = [&] {
        return static_cast<std::int8_t>(std::clamp(normal(generator), -128.0f, 127.0f));
      };
      for (std::int64_t i = 0; i < m * k; ++i) c.a.push_back(code());
      for (std::int64_t i = 0; i < n * k; ++i) c.b.push_back(code());
      for (std::int64_t i = 0; i < k; ++i) {  // one loud output; another of nothing but -128
        c.b[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(i % 2 == 0 ? 127 : 125);
        c.b[static_cast<std::size_t>((n - 1) * k + i)] = -128;
      }
      check_exact(*kernels, c);
      // What was packed is what comes back.
      const auto packed = pack(*kernels, c);
      std::vector<std::int8_t> back(c.b.size());
      for (std::int64_t i = 0; i < n; ++i) {
        packed->unpack_row(i, reinterpret_cast<std::byte*>(back.data() + i * k));
      }
      CHECK((back == c.b));
    }
  }
}

TEST_CASE("gemm: rare pairs of -128 against rows of -128: 32768 does not fit 16 bits") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t m : {1, 5, 7, 8, 13}) {
      const std::int64_t n = 100;
      const std::int64_t k = 256;
      GemmCase c = filled(m, n, k, -128, 0);
      for (std::int8_t& code : c.b) code = static_cast<std::int8_t>(generator() % 101 - 50);
      for (std::int64_t i = 0; i < n; ++i) {  // one word of 64, in either half of it or in both
        const auto at = static_cast<std::size_t>(i * k + i * 37 % 64 * 4);
        for (const std::size_t half : {std::size_t{0}, std::size_t{2}}) {
          if (i % 3 == (half == 0 ? 1 : 2)) continue;
          c.b[at + half] = c.b[at + half + 1] = -128;
        }
      }
      check_exact(*kernels, c);
      std::swap(c.a[0], c.b[0]);  // the same with single pairs among the activations
      for (std::int8_t& code : c.a) code = static_cast<std::int8_t>(generator() % 101 - 50);
      for (std::int64_t i = 0; i < m; ++i) {
        const auto at = static_cast<std::size_t>(i * k + i * 37 % 64 * 4);
        c.a[at] = c.a[at + 1] = -128;
      }
      check_exact(*kernels, c);
    }
  }
}

TEST_CASE("gemm: lists of cut pairs up to their room and beyond it, rows of -128 too") {
  for (const KernelTable* kernels : kernel_sets()) {
    const std::int64_t k = 512;  // 128 groups of 4 codes: room for 16
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t m : {3, 4, 7, 8}) {
      for (const int loud : {1, 15, 16, 17, 127, 128}) {
        for (const int code : {127, -127, -128}) {
          GemmCase c{m, 50, k, random_codes(generator, m * k, -40, 40),
                     random_codes(generator, 50 * k)};
          for (std::int64_t row = 0; row < m; row += 2) {  // the others stay quiet
            for (std::int64_t group = 0; group < loud; ++group) {
              const auto at = static_cast<std::size_t>(row * k + 4 * (127 - group));
              c.a[at] = static_cast<std::int8_t>(code);
              c.a[at + 1] = static_cast<std::int8_t>(group % 3 == 0 ? code : code / 2);
              if (group % 2 == 0) c.a[at + 2] = c.a[at + 3] = static_cast<std::int8_t>(-code / 2);
            }
          }
          check_exact(*kernels, c);
        }
      }
    }
  }
}

TEST_CASE("split pairs: no pair beyond the limit, and nothing lost") {
  for (const KernelTable* kernels : kernel_sets()) {
    if (int8_of(*kernels).sums != ActivationSums::split) continue;
    const bool is_signed = std::string_view(kernels->name).find("neon") != std::string_view::npos;
    const int limit = is_signed ? 255 : 128;
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t m : {3, 5, 8, 13}) {
      const std::int64_t k = 512;
      GemmCase c{m, 1, k, random_codes(generator, m * k, -64, 64), {}};
      for (std::int64_t i = 0; i < m * 16; ++i) {  // as many as a list takes, or fewer
        const auto pair = static_cast<std::size_t>(
            i / 16 * k + static_cast<std::int64_t>(generator() % static_cast<unsigned>(k)));
        c.a[pair / 2 * 2] = c.a[pair / 2 * 2 + 1] =
            static_cast<std::int8_t>(i % 2 == 0 ? 127 : -128);
      }
      const PackedActivations packed(*kernels, c, k);
      const RowBlocks blocks = int8_of(*kernels).blocks(m);
      const std::int64_t words = sums_of_row(k, ActivationSums::split);
      for (std::int64_t b = 0; b < blocks.count(); ++b) {
        for (std::int32_t r = 0; r < blocks.rows(b); ++r) {
          const std::int64_t row = blocks.first(b) + r;
          const std::int32_t* const list = packed.sums.data() + row * words;
          std::vector<int> codes;
          for (std::int64_t i = 0; i < k; ++i) {
            codes.push_back(static_cast<std::int8_t>(packed.bytes[static_cast<std::size_t>(
                blocks.first(b) * k + blocks.offset(blocks.rows(b), r, i))]));
          }
          int total = 0;
          int loudest = 0;
          for (std::size_t i = 0; i < codes.size(); i += 2) {
            loudest = std::max(loudest, std::abs(codes[i] + codes[i + 1]));
            total += codes[i] + codes[i + 1];
          }
          INFO(kernels->name << " " << m << " rows, row " << row << " seed " << test_seed());
          CHECK(loudest <= limit);
          CHECK(list[0] == (is_signed ? 0 : -128 * total));
          CHECK(list[2] == 0);
          for (std::int32_t i = 0; i < list[1]; ++i) {
            const std::int32_t group = list[4 + 2 * i];
            const std::int32_t excess = list[5 + 2 * i];
            codes[static_cast<std::size_t>(group * 4)] +=
                static_cast<std::int16_t>(excess & 0xFFFF);
            codes[static_cast<std::size_t>(group * 4 + 2)] += excess >> 16;
          }
          CHECK(std::equal(codes.begin(), codes.end(), c.a.begin() + row * k));
        }
      }
    }
  }
}

TEST_CASE("gemm: all 65,536 products of two codes") {
  GemmCase c{256, 256, 1, {}, {}};
  for (int i = -128; i < 128; ++i) {
    c.a.push_back(static_cast<std::int8_t>(i));
    c.b.push_back(static_cast<std::int8_t>(i));
  }
  for (const KernelTable* kernels : kernel_sets()) check_exact(*kernels, c);
}

TEST_CASE("gemm: the cut into panels does not matter") {
  std::mt19937_64 generator(test_seed());
  for (const KernelTable* kernels : kernel_sets()) {
    for (const std::int64_t m : {1, 3, 9}) {
      const GemmCase c{m, 301, 70, random_codes(generator, m * 70),
                       random_codes(generator, 301 * 70)};
      for (const std::int64_t panels : {1, 2, 3, 5}) {
        CHECK(run_gemm(*kernels, c, panels) == run_gemm(*kernels, c));
      }
    }
  }
}

}  // namespace kvant::test
