// range, quantize, dequantize and convert of every kernel set against the scalar one, bit for bit.

#include <cmath>
#include <cstring>

#include "kernels/kernel_sets.hpp"
#include "support/catch.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"
#include "support/special_floats.hpp"

namespace kvant::test {
namespace {

constexpr DType kFloats[] = {DType::float32, DType::float16, DType::bfloat16};

/// Values in dtype, ending at an unmapped page.
GuardedBuffer<std::byte> stored(const std::vector<float>& values, DType dtype) {
  const std::size_t size = static_cast<std::size_t>(describe(dtype).bits) / 8;
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::float32) {
      std::memcpy(&bytes[i * size], &values[i], 4);
    } else {
      const std::uint16_t bits = dtype == DType::float16 ? detail::float_to_half_bits(values[i])
                                                         : detail::float_to_bfloat_bits(values[i]);
      std::memcpy(&bytes[i * size], &bits, 2);
    }
  }
  return GuardedBuffer<std::byte>(std::span<const std::byte>(bytes));
}

std::vector<float> awkward(std::mt19937_64& generator, std::int64_t count) {
  std::vector<float> x = random_floats(generator, count, 40.0f);
  const float special[] = {0.0f,   -0.0f,  kNaN,        kInf,    -kInf,    0.5f,
                           1.5f,   2.5f,   -0.5f,       1e38f,   -1e38f,   1e-40f,
                           127.5f, 126.5f, 127.499992f, -128.5f, 65504.0f, 65520.0f};
  std::uniform_int_distribution<std::size_t> pick(0, std::size(special) - 1);
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = special[pick(generator)];
  return x;
}

template <class T>
std::vector<std::uint8_t> bytes_of(const GuardedBuffer<T>& b) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(b.data());
  return {p, p + b.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("quantize: every order of rounding, parameter per tensor, row or column") {
  const auto sets = kernel_sets();
  std::mt19937_64 generator(test_seed());
  for (const std::int64_t cols : {1, 7, 8, 15, 16, 17, 65}) {
    const std::int64_t rows = 5;
    const std::vector<float> x = awkward(generator, rows * cols);
    std::vector<float> scale = random_floats(generator, rows * cols);
    for (float& s : scale) s = std::fabs(s) + 0.01f;
    std::vector<float> zero(static_cast<std::size_t>(rows * cols));
    for (std::size_t i = 0; i < zero.size(); ++i) zero[i] = static_cast<float>(i % 9);
    for (const DType dtype : kFloats) {
      const auto data = stored(x, dtype);
      for (const RoundOrder order : {RoundOrder::kvant, RoundOrder::divide,
                                     RoundOrder::torch_channel, RoundOrder::torch_tensor}) {
        for (const auto& steps : {std::pair{0, 0}, {1, 0}, {0, 1}}) {
          const int row_step = steps.first;  // plain variables: clang 14 cannot capture bindings
          const int col_step = steps.second;
          for (const bool is_unsigned : {false, true}) {
            const auto run = [&](const KernelTable& kernels) {
              const std::int64_t used = row_step == 1 ? rows : col_step == 1 ? cols : 1;
              const GuardedBuffer<float> s(
                  std::span<const float>(scale).first(static_cast<std::size_t>(used)));
              const GuardedBuffer<float> z(
                  std::span<const float>(zero).first(static_cast<std::size_t>(used)));
              const GuardedBuffer<std::uint8_t> codes(static_cast<std::size_t>(rows * cols));
              kernels.quantize({.x = {data.data(), dtype, rows, cols, cols},
                                .order = order,
                                .scale = s.data(),
                                .zero_point = z.data(),
                                .row_step = row_step,
                                .col_step = col_step,
                                .lowest = is_unsigned ? 0.0f : -128.0f,
                                .highest = is_unsigned ? 255.0f : 127.0f,
                                .codes = codes.data(),
                                .is_unsigned = is_unsigned,
                                .code_stride = cols});
              const GuardedBuffer<std::uint16_t> y(static_cast<std::size_t>(rows * cols));
              kernels.dequantize({.codes = codes.data(),
                                  .is_unsigned = is_unsigned,
                                  .rows = rows,
                                  .cols = cols,
                                  .code_stride = cols,
                                  .scale = s.data(),
                                  .zero_point = z.data(),
                                  .row_step = row_step,
                                  .col_step = col_step,
                                  .y = y.data(),
                                  .y_dtype = DType::bfloat16,
                                  .y_stride = cols});
              auto all = bytes_of(codes);
              const auto more = bytes_of(y);
              all.insert(all.end(), more.begin(), more.end());
              return all;
            };
            const auto want = run(*sets.front());
            for (const KernelTable* kernels : sets) {
              INFO(kernels->name << " cols " << cols << " order " << static_cast<int>(order)
                                 << " steps " << row_step << col_step << " seed " << test_seed());
              CHECK((run(*kernels) == want));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("range: minimum and maximum of rows and columns, NaN ignored") {
  const auto sets = kernel_sets();
  std::mt19937_64 generator(test_seed());
  for (const std::int64_t cols : {1, 7, 8, 15, 16, 17, 65}) {
    const std::int64_t rows = 7;
    std::vector<float> x = awkward(generator, rows * cols);
    for (std::int64_t c = 0; c < cols; ++c) x[static_cast<std::size_t>(2 * cols + c)] = kNaN;
    for (const DType dtype : kFloats) {
      const auto data = stored(x, dtype);
      for (const bool per_column : {false, true}) {
        const auto run = [&](const KernelTable& kernels) {
          const auto count = static_cast<std::size_t>(per_column ? cols : rows);
          const GuardedBuffer<float> low(std::vector<float>(count, kInf));
          const GuardedBuffer<float> high(std::vector<float>(count, -kInf));
          kernels.range({.x = {data.data(), dtype, rows, cols, cols},
                         .per_column = per_column,
                         .min = low.data(),
                         .max = high.data()});
          std::vector<float> all(low.data(), low.data() + count);
          all.insert(all.end(), high.data(), high.data() + count);
          return all;
        };
        const auto want = run(*sets.front());
        if (!per_column) {
          CHECK(want[2] == kInf);  // nothing but NaN
          CHECK(want[static_cast<std::size_t>(rows) + 2] == -kInf);
        }
        for (const KernelTable* kernels : sets) {
          INFO(kernels->name << " cols " << cols << " " << to_string(dtype));
          CHECK((run(*kernels) == want));
        }
      }
    }
  }
}

TEST_CASE("convert: all pairs of float types") {
  const auto sets = kernel_sets();
  std::mt19937_64 generator(test_seed());
  for (const std::int64_t count : {1, 7, 8, 9, 16, 33, 1000}) {
    const std::vector<float> x = awkward(generator, count);
    for (const DType from : kFloats) {
      const auto data = stored(x, from);
      for (const DType to : kFloats) {
        const auto run = [&](const KernelTable& kernels) {
          const GuardedBuffer<std::byte> y(static_cast<std::size_t>(count * describe(to).bits / 8));
          kernels.convert({data.data(), from, y.data(), to, count});
          return bytes_of(y);
        };
        const auto want = run(*sets.front());
        for (const KernelTable* kernels : sets) {
          INFO(kernels->name << " " << to_string(from) << " -> " << to_string(to) << " " << count);
          CHECK((run(*kernels) == want));
        }
      }
    }
  }
}

}  // namespace kvant::test
