// quantize_rows of every kernel set against the scalar one: codes, absmax and outlier columns bit
// for bit, on awkward values, strided rows and buffers that end at an unmapped page.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kernel_sets.hpp"
#include "support/catch.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"
#include "support/special_floats.hpp"

namespace kvant::test {
namespace {

struct Result {
  std::vector<std::int8_t> codes;
  std::vector<std::uint32_t> absmax;
  std::vector<std::uint8_t> outliers;
  bool operator==(const Result&) const = default;
};

struct Options {
  float threshold = kInf;
  bool bitsandbytes = false;
  bool find_outliers = true;
  bool scan_only = false;
  const std::vector<std::int16_t>* keep_mask = nullptr;
  const float* given_absmax = nullptr;
};

Result run(const KernelTable& kernels, const std::vector<float>& x, std::int64_t rows,
           std::int64_t cols, DType dtype, ActivationFormat format, const Options& options) {
  const std::int64_t stride = cols + 5;
  const std::int64_t size = describe(dtype).bits / 8;
  const GuardedBuffer<std::byte> data(
      static_cast<std::size_t>(((rows - 1) * stride + cols) * size));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const float value = x[static_cast<std::size_t>(r * cols + c)];
      std::byte* at = data.data() + (r * stride + c) * size;
      if (dtype == DType::float32) {
        std::memcpy(at, &value, 4);
      } else {
        const std::uint16_t bits = dtype == DType::float16 ? detail::float_to_half_bits(value)
                                                           : detail::float_to_bfloat_bits(value);
        std::memcpy(at, &bits, 2);
      }
    }
  }
  const std::int64_t k_padded = (cols + 63) / 64 * 64;
  const GuardedBuffer<std::byte> codes(static_cast<std::size_t>(rows * k_padded));
  const GuardedBuffer<float> absmax(static_cast<std::size_t>(rows));
  const GuardedBuffer<std::uint8_t> flags(
      std::vector<std::uint8_t>(static_cast<std::size_t>(cols), 0));
  const GuardedBuffer<std::int16_t> mask(
      options.keep_mask != nullptr ? *options.keep_mask : std::vector<std::int16_t>{});
  kernels.quantize_rows({.x = {data.data(), dtype, rows, cols, stride},
                         .bitsandbytes = options.bitsandbytes,
                         .threshold = options.threshold,
                         .keep_mask = options.keep_mask != nullptr ? mask.data() : nullptr,
                         .given_absmax = options.given_absmax,
                         .codes = options.scan_only ? nullptr : codes.data(),
                         .format = format,
                         .code_stride = k_padded,
                         .k_padded = k_padded,
                         .absmax = absmax.data(),
                         .outlier_columns = options.find_outliers ? flags.data() : nullptr});
  Result result;
  for (std::int64_t i = 0; i < rows * k_padded && !options.scan_only; ++i) {
    const std::byte* at = codes.data() + i;
    std::int16_t wide = 0;
    if (format == ActivationFormat::s8) wide = static_cast<std::int8_t>(*at);
    if (format == ActivationFormat::u8_offset)
      wide = static_cast<std::int16_t>(static_cast<int>(*at) - 128);
    const std::int64_t c = i % k_padded;
    if (c >= cols) REQUIRE(wide == 0);
    REQUIRE(std::abs(wide) <= 127);
    if (c < cols) result.codes.push_back(static_cast<std::int8_t>(wide));
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float value = absmax[static_cast<std::size_t>(r)];
    result.absmax.push_back(std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value));
  }
  result.outliers.assign(flags.data(), flags.data() + flags.size());
  return result;
}

/// Rows of every kind, one after the other.
std::vector<float> awkward_rows(std::int64_t rows, std::int64_t cols, std::mt19937_64& generator) {
  std::vector<float> x = random_floats(generator, rows * cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = x.data() + r * cols;
    const auto at = [&](std::int64_t i) -> float& { return row[(i * 7 + 3) % cols]; };
    switch (r % 12) {
      case 1: std::fill(row, row + cols, 0.0f); break;
      case 2: at(1) = kNaN; break;
      case 3:
        at(1) = kInf;
        at(2) = -kInf;
        break;
      case 4: std::fill(row, row + cols, -3.25f); break;
      case 5:
        for (std::int64_t c = 0; c < cols; ++c) row[c] *= 1e-40f;
        break;
      case 6:
        for (std::int64_t c = 0; c < cols; ++c) row[c] *= 1e37f;
        break;
      case 7:
        std::fill(row, row + cols, 1e-30f);
        at(0) = 1e30f;
        break;
      case 8:
        for (std::int64_t c = 0; c < cols; ++c) row[c] = 0.5f * static_cast<float>(c % 255 - 127);
        at(0) = 127.0f;
        break;
      case 9:
        at(0) = 6.0f;
        at(1) = -6.0f;
        at(2) = std::nextafter(6.0f, 0.0f);
        break;
      case 10: std::fill(row, row + cols, 70.0f); break;  // nothing but outliers
      case 11:
        at(0) = std::numeric_limits<float>::max();
        at(1) = -65520.0f;
        break;
      default: break;
    }
  }
  return x;
}

}  // namespace

TEST_CASE("quantize_rows: bit-identical on every kernel set") {
  const auto sets = kernel_sets();
  std::mt19937_64 generator(test_seed());
  for (const std::int64_t cols :
       {1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 65, 100, 128, 129, 160, 257, 2048, 2050}) {
    const std::int64_t rows = cols > 2000 ? 13 : 24;
    const std::vector<float> x = awkward_rows(rows, cols, generator);
    std::vector<std::int16_t> mask(static_cast<std::size_t>(cols), std::int16_t{-1});
    for (std::size_t c = 0; c < mask.size(); c += 5) mask[c] = 0;
    const float given = 2.5f;
    const Options variants[] = {{.threshold = 6.0f},
                                {.threshold = 6.01f},     // between two values of 16 bits
                                {.threshold = 65519.0f},  // the next fp16 is infinity
                                {.threshold = 1e-40f},
                                {.threshold = 0.0f},
                                {.threshold = kInf},
                                {.threshold = kInf, .find_outliers = false},
                                {.threshold = 6.0f, .bitsandbytes = true},
                                {.threshold = 6.0f, .keep_mask = &mask},
                                {.threshold = 6.0f, .given_absmax = &given},
                                {.threshold = 6.0f, .scan_only = true},
                                {.threshold = 6.0f, .bitsandbytes = true, .keep_mask = &mask},
                                {.threshold = kInf, .bitsandbytes = true, .find_outliers = false},
                                {.threshold = 6.0f, .keep_mask = &mask, .given_absmax = &given}};
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (std::size_t v = 0; v < std::size(variants); ++v) {
        const Result want =
            run(*sets.front(), x, rows, cols, dtype, ActivationFormat::s8, variants[v]);
        for (const KernelTable* kernels : sets) {
          for (const ActivationFormat format :
               {ActivationFormat::s8, ActivationFormat::u8_offset}) {
            const Result got = run(*kernels, x, rows, cols, dtype, format, variants[v]);
            INFO(kernels->name << " cols " << cols << " " << to_string(dtype) << " variant " << v
                               << " format " << static_cast<int>(format) << " seed "
                               << test_seed());
            CHECK(got.codes == want.codes);
            CHECK(got.absmax == want.absmax);
            CHECK(got.outliers == want.outliers);
          }
        }
      }
    }
  }
}

TEST_CASE("quantize_rows: the defined edges") {
  for (const KernelTable* kernels : kernel_sets()) {
    INFO(kernels->name);
    const auto one = [&](std::vector<float> x, Options options = {}) {
      return run(*kernels, x, 1, static_cast<std::int64_t>(x.size()), DType::float32,
                 ActivationFormat::s8, options);
    };
    CHECK(one({0.0f, -0.0f, 0.0f}).codes == std::vector<std::int8_t>{0, 0, 0});
    CHECK(one({0.0f, 0.0f}).absmax[0] == 0);
    CHECK(one({1.0f, kNaN, 3.0f}).absmax[0] == 0x7FC00000u);
    CHECK(one({1.0f, kNaN, 3.0f}).codes == std::vector<std::int8_t>{0, 0, 0});
    // The threshold itself is an outlier; it does not count for the absmax, and its code is 0.
    const Result at = one({6.0f, 2.0f, -1.0f}, {.threshold = 6.0f});
    CHECK(at.outliers == std::vector<std::uint8_t>{1, 0, 0});
    CHECK(at.codes == std::vector<std::int8_t>{0, 127, -64});  // -63.5 to even
    CHECK(std::bit_cast<float>(at.absmax[0]) == 2.0f);
    // The seeds' vector of the theory.
    CHECK(one({1.2f, -0.5f, -4.3f, 1.2f, -3.1f, 0.8f, 2.4f, 5.4f}).codes ==
          std::vector<std::int8_t>{28, -12, -101, 28, -73, 19, 56, 127});
    // Subnormal rows: the scale has a finite reciprocal, finite in, finite out.
    const Result tiny = one({0x1p-149f, -0x1p-140f});
    CHECK(std::bit_cast<float>(tiny.absmax[0]) == kSmallestAbsmax);
    CHECK(std::isfinite(127.0f / kSmallestAbsmax));
    CHECK(std::bit_cast<std::uint32_t>(kSmallestAbsmax / 127.0f) == 0x00200001u);
    const Result huge = one({std::numeric_limits<float>::max(), -1e38f});
    CHECK(huge.codes == std::vector<std::int8_t>{127, -37});
  }
}

}  // namespace kvant::test
