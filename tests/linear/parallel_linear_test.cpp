// Layers shared by ranks, here threads: the bits of one process for every format, number of ranks
// and way of choosing outliers.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <kvant/matrix.hpp>
#include <kvant/parallel_linear.hpp>
#include <kvant/quant_params.hpp>
#include <limits>
#include <random>
#include <string>

#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/thread_ranks.hpp"

namespace {

using kvant::ColumnParallelLinear;
using kvant::Context;
using kvant::Linear;
using kvant::MatrixView;
using kvant::Ranks;
using kvant::RowParallelLinear;
using kvant::Share;
using kvant::WeightFormat;
using kvant::test::run_ranks;

struct Problem {
  std::int64_t m, k, n;
  std::vector<float> x, w, bias;

  Problem(std::int64_t rows, std::int64_t inputs, std::int64_t outputs, bool outliers = true)
      : m(rows), k(inputs), n(outputs) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    const auto fill = [&](std::vector<float>& values, std::int64_t count) {
      values.resize(static_cast<std::size_t>(count));
      for (float& value : values) value = normal(random);
    };
    fill(x, m * k);
    fill(w, n * k);
    fill(bias, n);
    if (!outliers) return;
    for (std::int64_t r = 0; r < m; ++r) {
      x[static_cast<std::size_t>(r * k + std::min<std::int64_t>(3, k - 1))] *= 20;
      if (r % 2 == 0) x[static_cast<std::size_t>(r * k + k - 2)] *= 30;
    }
  }
  [[nodiscard]] MatrixView<const float> weights() const { return {w.data(), n, k}; }
  [[nodiscard]] MatrixView<const float> bias_row() const { return {bias.data(), 1, n}; }
  [[nodiscard]] MatrixView<const float> columns(Share share) const {
    return {x.data() + share.begin, m, share.size(), k};
  }
};

std::vector<float> alone(const Problem& p, WeightFormat format,
                         const kvant::ActivationOptions& options) {
  Context context({.threads = 1});
  std::vector<float> y(static_cast<std::size_t>(p.m * p.n));
  Linear::quantize(context, p.weights(), format, p.bias_row(), options)
      .forward(context, MatrixView<const float>(p.x.data(), p.m, p.k),
               MatrixView<float>(y.data(), p.m, p.n));
  return y;
}

bool same_bits(const float* a, const float* b, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::memcmp(a + i, b + i, sizeof(float)) != 0) return false;
  }
  return true;
}

/// Both layers on `size` ranks against one process.
void check(const Problem& p, WeightFormat format, int size,
           const kvant::ActivationOptions& options = {}) {
  const std::vector<float> wanted = alone(p, format, options);
  std::vector<int> wrong(static_cast<std::size_t>(size));
  run_ranks(size, [&](Ranks& ranks) {
    Context context({.threads = 1});
    const auto row =
        RowParallelLinear::quantize(ranks, context, p.weights(), format, p.bias_row(), options);
    std::vector<float> y(wanted.size());
    row.forward(context, p.columns(row.inputs()), MatrixView<float>(y.data(), p.m, p.n));
    int& bad = wrong[static_cast<std::size_t>(ranks.rank())];
    if (!same_bits(y.data(), wanted.data(), p.m * p.n)) bad += 1;

    const auto column =
        ColumnParallelLinear::quantize(ranks, context, p.weights(), format, p.bias_row(), options);
    const Share share = column.share();
    std::vector<float> part(static_cast<std::size_t>(p.m * share.size()));
    if (share.size() == 0) return;
    column.forward(context, MatrixView<const float>(p.x.data(), p.m, p.k),
                   MatrixView<float>(part.data(), p.m, share.size()));
    for (std::int64_t r = 0; r < p.m; ++r) {
      if (!same_bits(part.data() + r * share.size(), wanted.data() + r * p.n + share.begin,
                     share.size())) {
        bad += 2;
      }
    }
  });
  for (int r = 0; r < size; ++r) {
    INFO("rank " << r);
    CHECK(wrong[static_cast<std::size_t>(r)] == 0);
  }
}

}  // namespace

TEST_CASE("parallel layers: the bits of one process in every format, by 1 to 5 ranks") {
  for (const auto& info : kvant::weight_format_table()) {
    if (info.is_gguf()) continue;  // made of blocks alone, and packed as int8-group is
    for (const int size : {1, 2, 3, 4, 5}) {
      if (info.block_rows > 1 && 640 / info.block_rows % size != 0) continue;  // refused, below
      for (const std::int64_t m : {1, 13}) {
        INFO(info.name << ", " << size << " ranks, " << m << " rows");
        check(Problem(m, 640, 640), info.format, size);
      }
    }
  }
}

TEST_CASE("parallel layers: every way of choosing outliers, and shares that are uneven or empty") {
  const std::vector<std::int64_t> kept = {3, 100, 190};
  for (const auto arithmetic : {kvant::Arithmetic::kvant, kvant::Arithmetic::bitsandbytes}) {
    for (const auto outliers :
         {kvant::Outliers::per_call, kvant::Outliers::per_row, kvant::Outliers::calibrated}) {
      for (const float threshold : {0.0f, 3.0f}) {
        for (const bool keeps : {false, true}) {
          if (keeps && arithmetic == kvant::Arithmetic::bitsandbytes) continue;
          if (!keeps && outliers == kvant::Outliers::calibrated) continue;
          if (arithmetic == kvant::Arithmetic::bitsandbytes &&
              outliers != kvant::Outliers::per_call) {
            continue;
          }
          kvant::ActivationOptions options;
          options.arithmetic = arithmetic;
          options.outliers = outliers;
          options.threshold = threshold;
          if (keeps) options.keep_columns = kept;
          INFO(static_cast<int>(arithmetic)
               << " " << static_cast<int>(outliers) << " " << threshold << " " << keeps);
          check(Problem(9, 200, 77), WeightFormat::int8_row, 3, options);
          check(Problem(9, 200, 130), WeightFormat::int8_row, 2, options);
        }
      }
    }
  }
  check(Problem(4, 2, 2), WeightFormat::int8_row, 4);  // more ranks than columns
  check(Problem(4, 640, 320), WeightFormat::int8_row, 2,
        {.activation_scale = kvant::ActivationScale::per_tensor});
}

TEST_CASE("parallel layers: NaN, infinities, zeros and subnormals are the row's on every rank") {
  Problem p(6, 256, 128, false);
  p.x[0] = std::numeric_limits<float>::quiet_NaN();              // row 0
  p.x[256 + 255] = std::numeric_limits<float>::infinity();       // row 1
  for (std::size_t c = 0; c < 256; ++c) p.x[512 + c] = 0.0f;     // row 2
  for (std::size_t c = 0; c < 256; ++c) p.x[768 + c] = 1e-40f;   // row 3
  for (std::size_t c = 128; c < 256; ++c) p.x[1024 + c] = 0.0f;  // row 4: zeros on one rank
  for (const int size : {2, 3}) {
    check(p, WeightFormat::int8_row, size);
    check(p, WeightFormat::int4_group, size);
    check(p, WeightFormat::int8_row, size, {.threshold = 0});
  }
  const auto strict = [&] { check(p, WeightFormat::int8_row, 2, {.check_finite = true}); };
  CHECK(kvant::test::code_of(strict) == kvant::ErrorCode::not_finite);
}

TEST_CASE("parallel layers: outputs that travel in pieces are the whole's, static scales too") {
  kvant::QuantParams measured;
  measured.scheme = kvant::int8_affine;
  measured.scale = {0.04f};
  measured.zero_point = {9};
  for (const std::int64_t m : {97, 250}) {  // pieces of 96 rows, which no kernel's tiles divide
    for (const WeightFormat format : {WeightFormat::int8_row, WeightFormat::int4_group,
                                      WeightFormat::bfloat16, WeightFormat::int3_group}) {
      check(Problem(m, 256, 130), format, 3);
    }
    check(Problem(m, 256, 130), WeightFormat::int8_row, 2, {.static_params = &measured});
    check(Problem(m, 256, 130), WeightFormat::int4_group, 3,
          {.arithmetic = kvant::Arithmetic::int15});
  }
}

namespace {

/// Two ranks of which the other has the same: what was started is there when it is finished.
class LateRanks final : public Ranks {
 public:
  explicit LateRanks(std::vector<std::string>& events) : events_(events) {}
  [[nodiscard]] int rank() const noexcept override { return 0; }
  [[nodiscard]] int size() const noexcept override { return 2; }

 protected:
  class Late final : public kvant::Exchange {
   public:
    Late(std::vector<std::string>& events, std::span<const std::byte> mine, std::byte* all)
        : events_(events), mine_(mine), all_(all) {}
    void advance() override {}
    void finish() override {
      events_.push_back("finish");
      for (int r = 0; r < 2; ++r, all_ += mine_.size()) std::copy(mine_.begin(), mine_.end(), all_);
    }

   private:
    std::vector<std::string>& events_;
    std::span<const std::byte> mine_;
    std::byte* all_;
  };
  std::unique_ptr<kvant::Exchange> do_start_all_gather(std::span<const std::byte> mine,
                                                       std::span<const std::int64_t>,
                                                       std::byte* all) override {
    events_.push_back("start");
    return std::make_unique<Late>(events_, mine, all);
  }
  void do_all_gather(std::span<const std::byte>, std::span<const std::int64_t>,
                     std::byte*) override {}
  void do_gather(std::span<const std::byte>, std::span<const std::int64_t>, std::byte*) override {}
  void do_all_max(std::span<std::int32_t>) override {}
  void do_all_or(std::span<std::uint32_t>) override {}
  void do_broadcast(std::span<std::byte>) override {}

 private:
  std::vector<std::string>& events_;
};

}  // namespace

TEST_CASE("ranks: pieces travel while the next ones are made") {
  std::vector<std::string> events;
  LateRanks ranks(events);
  kvant::Matrix<float> mine(5, 3);
  kvant::Matrix<float> all(5, 6);
  const std::vector<std::int64_t> widths = {3, 3};
  ranks.gather_columns(mine, widths, all, 2, [&](Share rows) {
    events.push_back("make " + std::to_string(rows.begin));
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      for (std::int64_t c = 0; c < 3; ++c) mine(r, c) = static_cast<float>(10 * r + c);
    }
  });
  CHECK(events == std::vector<std::string>{"make 0", "start", "make 2", "start", "make 4", "start",
                                           "finish", "finish", "finish"});
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t c = 0; c < 6; ++c) CHECK(all(r, c) == static_cast<float>(10 * r + c % 3));
  }
  CHECK(ranks.traffic().exchanges == 3);
  CHECK(ranks.traffic().bytes_sent == 5 * 3 * 4);
}

TEST_CASE("parallel layers: what is sent is counted, and codes are a quarter of floats") {
  const Problem p(16, 1024, 512, false);
  for (const auto& [format, activations] :
       {std::pair(WeightFormat::int8_row, std::int64_t{1}), {WeightFormat::bfloat16, 4}}) {
    run_ranks(4, [&, f = format, bytes = activations](Ranks& ranks) {
      Context context({.threads = 1});
      const auto layer = RowParallelLinear::quantize(ranks, context, p.weights(), f);
      const std::int64_t before = ranks.traffic().bytes_sent;
      std::vector<float> y(static_cast<std::size_t>(p.m * p.n));
      layer.forward(context, p.columns(layer.inputs()), MatrixView<float>(y.data(), p.m, p.n));
      const std::int64_t scan = bytes == 1 ? p.m * 4 + p.k / 4 / 8 : 0;
      const std::int64_t wanted = 3 * (scan + p.m * p.k / 4 * bytes + p.m * p.n / 4 * 4);
      if (ranks.traffic().bytes_sent - before != wanted) throw std::runtime_error("other bytes");
    });
  }
}

TEST_CASE("parallel layers: what cannot be is an error") {
  const Problem p(4, 96, 96);
  const auto message = [](int size, auto&& make) -> std::string {
    try {
      run_ranks(size, make);
    } catch (const kvant::Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(message(2,
                     [&](Ranks& ranks) {
                       Context context({.threads = 1});
                       RowParallelLinear(
                           ranks, Linear::quantize(context, p.weights(), WeightFormat::int8_row),
                           {48, 48}, 96);
                     }),
             Catch::Contains("the layer has 96 outputs; rank 0's share of 96 is 48"));
  CHECK_THAT(message(2,
                     [&](Ranks& ranks) {
                       Context context({.threads = 1});
                       auto own =
                           Linear::quantize(context, MatrixView<const float>(p.w.data(), 48, 96),
                                            WeightFormat::int8_row);
                       RowParallelLinear(ranks, own, {48, 47}, 96);
                     }),
             Catch::Contains("2 ranks have 95 columns of x, the layer takes 96"));
  CHECK_THAT(message(2,
                     [&](Ranks& ranks) {
                       Context context({.threads = 1});
                       (void)ColumnParallelLinear::quantize(ranks, context, p.weights(),
                                                            WeightFormat::fp8_block);
                     }),
             Catch::Contains("outputs of several ranks share a scale in fp8-block"));
  CHECK_THAT(message(2,
                     [&](Ranks& ranks) {
                       Context context({.threads = 1});
                       const auto layer = RowParallelLinear::quantize(ranks, context, p.weights(),
                                                                      WeightFormat::int8_row);
                       std::vector<float> y(4 * 96);
                       layer.forward(context, MatrixView<const float>(p.x.data(), 4, 96),
                                     MatrixView<float>(y.data(), 4, 96));
                     }),
             Catch::Contains("x has 96 columns, rank 0's are 48"));
}

TEST_CASE("ranks: shares are even, whole units, and all of it") {
  using kvant::share_of;
  CHECK(share_of(8192, 3, 64) == Share{384, 512});
  CHECK(share_of(768, 1, 4) == Share{192, 384});
  CHECK(share_of(28672, 0, 3) == Share{0, 9472});
  CHECK(share_of(5, 1, 2) == Share{2, 5});
  for (const std::int64_t count : {1, 3, 63, 64, 100, 640, 50257, 128256}) {
    for (const int ranks : {1, 2, 3, 7, 64}) {
      std::int64_t at = 0;
      const auto sizes = kvant::share_sizes(count, ranks);
      for (int r = 0; r < ranks; ++r) {
        const Share share = share_of(count, r, ranks);
        CHECK(share.begin == at);
        CHECK(share.size() == sizes[static_cast<std::size_t>(r)]);
        at = share.end;
      }
      CHECK(at == count);
    }
  }
}

TEST_CASE("ranks: agree says what differs where") {
  const auto message = [](int size, const std::function<std::string(int)>& value) -> std::string {
    try {
      run_ranks(size, [&](Ranks& ranks) { ranks.agree("versions", value(ranks.rank())); });
    } catch (const kvant::Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message(3, [](int) { return std::string(1000, 'x'); }).empty());
  CHECK(message(3, [](int rank) { return rank == 2 ? "0.3" : "0.2"; }) ==
        "versions differ between ranks: rank 0 has 0.2, rank 2 has 0.3");
  CHECK_THAT(message(2, [](int rank) { return std::string(300, 'x') + std::to_string(rank); }),
             Catch::Contains("(checksum "));
}
