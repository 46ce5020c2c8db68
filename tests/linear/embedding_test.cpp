// Tables of embeddings in weight formats: rows are looked up without expanding the table.

#include <algorithm>
#include <memory>
#include <vector>

#include "kvant/linear.hpp"
#include "kvant/packed_weights.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/thread_executor.hpp"
#include "support/views.hpp"

namespace kvant::test {

TEST_CASE("embeddings: a looked up row is that of the dequantized table, in every format") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t tokens = 300;
  const std::int64_t width = 96;
  const std::vector<float> table = random_floats(generator, tokens * width);
  std::vector<std::int64_t> ids(500);  // more than one task, some twice
  for (std::int64_t& id : ids) id = static_cast<std::int64_t>(generator() % 300);
  ids.front() = tokens - 1;
  const std::int64_t count = static_cast<std::int64_t>(ids.size());
  Context parallel(ContextOptions{.executor = std::make_shared<ThreadExecutor>(3)});
  for (const WeightFormatInfo& info : weight_format_table()) {
    if (info.is_gguf()) continue;
    CAPTURE(std::string(info.name));
    const auto packed = PackedWeights::quantize(view(table, tokens, width), info.format);
    std::vector<float> whole(table.size());
    packed.dequantize(MatrixView<float>(whole.data(), tokens, width));
    std::vector<float> rows(static_cast<std::size_t>(count * width));
    packed.dequantize_rows(parallel, ids, MatrixView<float>(rows.data(), count, width));
    bool same = true;
    for (std::int64_t r = 0; r < count; ++r) {
      same = same && std::equal(rows.data() + r * width, rows.data() + (r + 1) * width,
                                whole.data() + ids[static_cast<std::size_t>(r)] * width);
    }
    CHECK(same);
  }
  // In half precision, into a matrix with a stride.
  const auto nf4 = PackedWeights::quantize(view(table, tokens, width), WeightFormat::nf4);
  std::vector<float16> half(3 * 128);
  std::vector<float> row(static_cast<std::size_t>(width));
  nf4.dequantize_rows(default_context(), std::vector<std::int64_t>{7, 0, 7},
                      MatrixView<float16>(half.data(), 3, width, 128));
  nf4.dequantize(MatrixView<float>(row.data(), 1, width), 7);
  for (std::size_t i = 0; i < row.size(); ++i) {
    CHECK(static_cast<float>(half[i]) == static_cast<float>(float16(row[i])));
    CHECK(half[256 + i].bits == half[i].bits);
  }
}

TEST_CASE("embeddings: the head that shares a table multiplies by the rows that are looked up") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> table = random_floats(generator, 40 * 64);
  const std::vector<float> x = random_floats(generator, 64);
  const auto head = Linear::quantize(view(table, 40, 64), WeightFormat::int4_group, {},
                                     {.arithmetic = Arithmetic::exact});
  std::vector<float> logits(40);
  head.forward(view(x, 1, 64), MatrixView<float>(logits.data(), 1, 40));
  std::vector<float> row(64);
  head.weights().dequantize_rows(default_context(), std::vector<std::int64_t>{23},
                                 MatrixView<float>(row.data(), 1, 64));
  double sum = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    sum += static_cast<double>(row[i]) * static_cast<double>(x[i]);
  }
  CHECK(static_cast<double>(logits[23]) == Approx(sum).epsilon(1e-4).margin(1e-4));
}

TEST_CASE("embeddings: rows that are not there, and results that do not fit") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> table = random_floats(generator, 10 * 32);
  const auto packed = PackedWeights::quantize(view(table, 10, 32), WeightFormat::int8_row);
  std::vector<float> out(64);
  const auto code = [&](std::vector<std::int64_t> ids, std::int64_t rows, std::int64_t cols,
                        const PackedWeights& weights) {
    return code_of([&] {
      weights.dequantize_rows(default_context(), ids, MatrixView<float>(out.data(), rows, cols));
    });
  };
  CHECK(code({1, 9}, 2, 32, packed) == ErrorCode::ok);
  CHECK(code({}, 0, 32, packed) == ErrorCode::ok);
  CHECK(code({1, 10}, 2, 32, packed) == ErrorCode::out_of_range);
  CHECK(code({-1, 0}, 2, 32, packed) == ErrorCode::out_of_range);
  CHECK(code({1}, 2, 32, packed) == ErrorCode::shape_mismatch);
  CHECK(code({1, 2}, 2, 31, packed) == ErrorCode::shape_mismatch);
  CHECK(code({0}, 1, 32, PackedWeights()) == ErrorCode::shape_mismatch);
  CHECK(code({0}, 1, 0, PackedWeights()) == ErrorCode::out_of_range);
  std::vector<std::int8_t> bytes(32);
  CHECK(code_of([&] {
          packed.dequantize_rows(default_context(), std::vector<std::int64_t>{0},
                                 MatrixView<std::int8_t>(bytes.data(), 1, 32));
        }) == ErrorCode::unsupported);
}

}  // namespace kvant::test
