// What is computed in float between linear layers: against float64, and the same bits on every
// instruction set and for any number of rows at a time.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kvant/float16.hpp"
#include "kvant/isa.hpp"
#include "models/vector/kernels.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

using namespace kvant::models;

std::vector<float> waves(std::size_t count, float scale, float phase) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = scale * std::sin(phase + 1.7f * static_cast<float>(i * i % 977));
  }
  return values;
}

/// Every set that this machine runs.
std::vector<std::pair<std::string, const VectorKernels*>> sets() {
  std::vector<std::pair<std::string, const VectorKernels*>> result;
  for (const kvant::IsaInfo& isa : kvant::instruction_sets()) {
    if (isa.available) result.emplace_back(isa.name, &vector_kernels(isa.name));
  }
  return result;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// That y is the dot product of two rows, but for so many roundings in a row.
void check_dot(float y, const float* x, const float* w, std::int64_t columns, double roundings) {
  double wanted = 0;
  double size = 0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double product = double{x[c]} * double{w[c]};
    wanted += product;
    size += std::fabs(product);
  }
  CHECK(std::fabs(double{y} - wanted) <= roundings * 0x1p-24 * size);
}

struct Problem {
  std::int64_t rows;
  std::int64_t head_dim;
  std::int64_t tokens;
};

/// Attention of `rows` queries over tokens with a window: scores, softmax, mix.
std::vector<float> attend(const VectorKernels& kernels, const Problem& p, bool codes,
                          std::int64_t at_a_time) {
  const std::int64_t panels = (p.tokens + 15) / 16;
  const std::int64_t width = panels * 16;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::vector<float> q = waves(size(p.rows * p.head_dim), 1.5f, 0.1f);
  const std::vector<float> keys = waves(size(panels * p.head_dim * 16), 1.0f, 0.5f);
  const std::vector<float> values = waves(size(p.tokens * p.head_dim), 2.0f, 0.9f);
  std::vector<std::int8_t> key_codes;
  std::vector<std::int8_t> value_codes;
  for (const float v : keys) key_codes.push_back(static_cast<std::int8_t>(v * 100));
  for (const float v : values) value_codes.push_back(static_cast<std::int8_t>(v * 60));
  const std::vector<float> scales(size(width), 0.01f);
  std::vector<float> scores(size(p.rows * width));
  std::vector<float> out(size(p.rows * p.head_dim));
  for (std::int64_t r = 0; r < p.rows; r += at_a_time) {
    const std::int64_t count = std::min(at_a_time, p.rows - r);
    kernels.scores({q.data() + r * p.head_dim, count, p.head_dim, codes ? nullptr : keys.data(),
                    codes ? key_codes.data() : nullptr, codes ? scales.data() : nullptr,
                    p.head_dim * 16, 16, panels, 0.3f, scores.data() + r * width, width});
    for (std::int64_t i = 0; i < count; ++i) {
      kernels.softmax({scores.data() + (r + i) * width, 3, p.tokens, width});
    }
    kernels.mix({scores.data() + r * width, width, count, p.tokens, codes ? nullptr : values.data(),
                 codes ? value_codes.data() : nullptr, p.head_dim, p.head_dim,
                 out.data() + r * p.head_dim});
  }
  if (codes) return out;
  // Against float64.
  double worst = 0;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      double dot = 0;
      for (std::int64_t c = 0; c < p.head_dim; ++c) {
        dot += double{q[size(r * p.head_dim + c)]} *
               double{keys[size((t / 16 * p.head_dim + c) * 16 + t % 16)]};
      }
      weights.push_back(t < 3 ? 0 : std::exp(dot * 0.3));
      sum += weights.back();
    }
    for (std::int64_t c = 0; c < p.head_dim; ++c) {
      double wanted = 0;
      for (std::int64_t t = 0; t < p.tokens; ++t) {
        wanted += weights[size(t)] / sum * double{values[size(t * p.head_dim + c)]};
      }
      worst = std::max(worst, std::fabs(wanted - double{out[size(r * p.head_dim + c)]}));
    }
  }
  CHECK(worst <= 3e-6);
  return out;
}

}  // namespace

TEST_CASE("vector kernels: a kernel set with vectors has none of the plain ones") {
  for (const auto& [name, kernels] : sets()) {
    INFO(name);
    if (name == "avx2" || name == "avxvnni") CHECK(kernels == &vector_kernels("avx2"));
    if (name.find("avx512") == 0 || name == "amx") CHECK(kernels == &vector_kernels("avx512"));
  }
  if (kvant::instruction_sets().size() > 1) {
    CHECK((sets().back().first == "scalar" || sets().back().first.find("neon") == 0 ||
           sets().back().second != &vector_kernels("scalar")));
  }
}

TEST_CASE("vector kernels: attention is right, and the same bits on every set and by any rows") {
  for (const Problem& p : {Problem{1, 64, 40}, Problem{3, 64, 513}, Problem{7, 12, 33},
                           Problem{9, 80, 16}, Problem{6, 8, 5}, Problem{5, 128, 100}}) {
    INFO(p.rows << " " << p.head_dim << " " << p.tokens);
    for (const bool codes : {false, true}) {
      const std::vector<float> first = attend(*sets().front().second, p, codes, p.rows);
      for (const auto& [name, kernels] : sets()) {
        INFO(name);
        CHECK(same(attend(*kernels, p, codes, p.rows), first));
        CHECK(same(attend(*kernels, p, codes, 1), first));
      }
    }
  }
}

TEST_CASE("vector kernels: rows of a matrix as panels, for products by it") {
  constexpr std::int64_t kStride = 1030;
  const std::vector<float> w = waves(16 * kStride, 1.0f, 0.2f);
  const std::vector<float> x = waves(5 * kStride, 1.5f, 0.7f);
  for (const std::int64_t columns : {1, 3, 4, 64, 65, 1027}) {
    INFO(columns);
    std::vector<float> first;
    for (const auto& [name, kernels] : sets()) {
      INFO(name);
      std::vector<float> panel(static_cast<std::size_t>(columns * 16));
      kernels->panel({w.data(), kStride, columns, panel.data()});
      std::vector<float> queries;
      for (std::int64_t r = 0; r < 5; ++r) {
        queries.insert(queries.end(), x.data() + r * kStride, x.data() + r * kStride + columns);
      }
      std::vector<float> y(5 * 16);
      kernels->scores({queries.data(), 5, columns, panel.data(), nullptr, nullptr, 0, 0, 1, 1.0f,
                       y.data(), 16});
      for (std::int64_t r = 0; r < 5; ++r) {
        for (std::int64_t i = 0; i < 16; ++i) {
          // Half of 64 products in a row, and then 17 sums.
          check_dot(y[static_cast<std::size_t>(r * 16 + i)], x.data() + r * kStride,
                    w.data() + i * kStride, columns, 51);
        }
      }
      if (first.empty()) first = y;
      CHECK(same(y, first));
    }
  }
}

TEST_CASE(
    "vector kernels: few rows by a matrix, any number of outputs, the same bits on every set") {
  const std::vector<float> w = waves(23 * 1027, 1.0f, 0.2f);
  const std::vector<float> x = waves(3 * 1027, 1.5f, 0.7f);
  for (const std::int64_t columns : {1, 15, 16, 65, 1027}) {
    for (const std::int64_t outputs : {1, 3, 4, 8, 23}) {
      INFO(columns << " " << outputs);
      std::vector<float> first;
      for (const auto& [name, kernels] : sets()) {
        INFO(name);
        const std::int64_t stride = outputs + 2;
        std::vector<float> y(static_cast<std::size_t>(3 * stride), -7.0f);
        kernels->dot({x.data(), 3, columns, w.data(), nullptr, outputs, y.data(), stride});
        for (std::int64_t r = 0; r < 3; ++r) {
          for (std::int64_t n = 0; n < outputs; ++n) {
            // A sixteenth of the products in a row, and then sixteen sums.
            check_dot(y[static_cast<std::size_t>(r * stride + n)], x.data() + r * columns,
                      w.data() + n * columns, columns, static_cast<double>(columns) / 16 + 17);
          }
          CHECK(y[static_cast<std::size_t>(r * stride + outputs)] == -7.0f);
        }
        if (first.empty()) first = y;
        CHECK(same(y, first));
        // Weights in bfloat16 are their floats.
        std::vector<float> rounded;
        std::vector<std::uint16_t> halves;
        for (const float v : w) {
          const kvant::bfloat16 half(v);
          rounded.push_back(static_cast<float>(half));
          halves.push_back(half.bits);
        }
        std::vector<float> other = y;
        kernels->dot({x.data(), 3, columns, rounded.data(), nullptr, outputs, y.data(), stride});
        kernels->dot({x.data(), 3, columns, nullptr, halves.data(), outputs, other.data(), stride});
        CHECK(same(other, y));
      }
    }
  }
}

TEST_CASE("vector kernels: gates over the whole range, any length, in place") {
  std::vector<float> x;
  for (int i = -1200; i <= 1203; ++i) x.push_back(0.1f * static_cast<float>(i));
  const std::vector<float> up = waves(x.size(), 2.0f, 0.3f);
  for (const auto& [factor, cubic] :
       {std::pair(1.0f, 0.0f), std::pair(1.702f, 0.0f), std::pair(1.5957691f, 0.044715f)}) {
    std::vector<float> first;
    for (const auto& [name, kernels] : sets()) {
      INFO(name);
      std::vector<float> out = x;
      const auto count = static_cast<std::int64_t>(x.size());
      kernels->gate({out.data(), up.data(), out.data(), count, factor, cubic});
      if (first.empty()) first = out;
      CHECK(same(out, first));
      double worst = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double v = double{x[i]};
        const double u = double{factor} * (v + double{cubic} * v * v * v);
        const double wanted = v / (1 + std::exp(-u)) * double{up[i]};
        worst = std::max(worst, std::fabs(double{out[i]} - wanted) / (1 + std::fabs(wanted)));
      }
      CHECK(worst <= 1e-6);
      std::vector<float> plain(5);
      kernels->gate({x.data() + 1200, nullptr, plain.data(), 5, factor, cubic});
      CHECK(plain[0] == 0.0f);
      CHECK(std::fabs(plain[4] - out[1204] / up[1204]) <= 1e-6f);
    }
  }
}

TEST_CASE("vector kernels: softmax of extremes") {
  for (const auto& [name, kernels] : sets()) {
    INFO(name);
    std::vector<float> row(32, 1e30f);
    kernels->softmax({row.data(), 4, 20, 32});
    CHECK(row[3] == 0.0f);
    CHECK(row[4] == 1.0f / 16);
    CHECK(row[20] == 0.0f);
    row.assign(32, -500.0f);
    row[7] = 0.0f;
    kernels->softmax({row.data(), 0, 32, 32});
    CHECK(row[7] == 1.0f);
    CHECK(row[8] == 0.0f);
  }
}
