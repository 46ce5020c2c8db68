// The same bits for any number of threads, any executor, any instruction set, and whatever rounding
// mode the caller's thread happens to run with.

#include <cfenv>
#include <set>
#include <thread>
#include <vector>

#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/thread_executor.hpp"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace kvant::test {
namespace {

struct Problem {
  std::int64_t m, n, k;
  std::vector<float> x, w, bias;
};

Problem make_problem(std::int64_t m, std::int64_t n, std::int64_t k) {
  std::mt19937_64 generator(test_seed());
  Problem p{m,
            n,
            k,
            random_floats(generator, m * k, 2.0f),
            random_floats(generator, n * k),
            random_floats(generator, n)};
  return p;
}

/// FNV-1a over the bytes of y.
std::uint64_t hash_of(const std::vector<float>& y) {
  std::uint64_t hash = 14695981039346656037u;
  for (const float v : y) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    for (int i = 0; i < 4; ++i) hash = (hash ^ (bits >> (8 * i) & 255u)) * 1099511628211u;
  }
  return hash;
}

std::uint64_t run(const Problem& p, Context& context, const Int8Options& options = {}) {
  const auto layer = Int8Linear::quantize(context, MatrixView<const float>(p.w.data(), p.n, p.k),
                                          MatrixView<const float>(p.bias.data(), 1, p.n), options);
  std::vector<float> y(static_cast<std::size_t>(p.m * p.n));
  layer.forward(context, MatrixView<const float>(p.x.data(), p.m, p.k),
                MatrixView<float>(y.data(), p.m, p.n));
  return hash_of(y);
}

}  // namespace

TEST_CASE("results do not depend on threads, executor or instruction set") {
  for (const auto& [m, n, k] :
       {std::tuple{1, 700, 600}, {33, 500, 130}, {200, 50, 300}, {64, 49, 1000}}) {
    const Problem p = make_problem(m, n, k);
    for (const Int8Options& options :
         {Int8Options{}, Int8Options{.threshold = 0.0f}, Int8Options{.outliers = Outliers::per_row},
          Int8Options{.threshold = 1.5f},  // nearly all columns: more than a GEMM gathers by itself
          Int8Options{.arithmetic = Arithmetic::bitsandbytes}}) {
      std::set<std::uint64_t> hashes;
      for (const IsaInfo& isa : instruction_sets()) {
        if (!isa.available) continue;
        for (const int threads : {1, 2, 3, 7, 16}) {
          Context openmp({.isa = isa.name, .threads = threads});
          hashes.insert(run(p, openmp, options));
          Context pool({.isa = isa.name, .executor = std::make_shared<ThreadExecutor>(threads)});
          hashes.insert(run(p, pool, options));
        }
      }
      INFO(m << "x" << n << "x" << k << " seed " << test_seed());
      CHECK(hashes.size() == 1);
    }
  }
}

TEST_CASE("4-bit layers: the same bits for any threads and instruction set") {
  for (const auto& [m, n, k] : {std::tuple{1, 700, 640}, {33, 500, 128}, {64, 49, 992}}) {
    const Problem p = make_problem(m, n, k);
    for (const WeightFormat format : {WeightFormat::int4_group, WeightFormat::nf4,
                                      WeightFormat::fp4, WeightFormat::int2_group}) {
      for (const ActivationOptions& options :
           {ActivationOptions{}, ActivationOptions{.outliers = Outliers::per_row},
            ActivationOptions{.threshold = 1.5f}}) {  // more than a GEMM gathers by itself
        std::set<std::uint64_t> hashes;
        for (const IsaInfo& isa : instruction_sets()) {
          if (!isa.available) continue;
          for (const int threads : {1, 2, 7}) {
            Context context({.isa = isa.name, .threads = threads});
            const auto layer =
                Linear::quantize(context, MatrixView<const float>(p.w.data(), p.n, p.k), format,
                                 MatrixView<const float>(p.bias.data(), 1, p.n), options);
            std::vector<float> y(static_cast<std::size_t>(m * n));
            layer.forward(context, MatrixView<const float>(p.x.data(), m, k),
                          MatrixView<float>(y.data(), m, n));
            hashes.insert(hash_of(y));
          }
        }
        INFO(to_string(format) << " " << m << "x" << n << "x" << k << " seed " << test_seed());
        CHECK(hashes.size() == 1);
      }
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("results do not depend on the caller's rounding mode or flush-to-zero") {
  const Problem p = make_problem(9, 70, 100);
  Context context;
  const std::uint64_t want = run(p, context);
  const unsigned saved = _mm_getcsr();
  for (const unsigned mode :
       {0x7F80u, 0x3F80u, 0x1F80u | 0x8040u}) {  // toward zero, down, FTZ + DAZ
    _mm_setcsr(mode);
    const std::uint64_t got = run(p, context);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    CHECK(got == want);
    CHECK((after & ~0x3Fu) == mode);  // given back as it was (but for sticky flags)
  }
}
#endif

TEST_CASE("one layer, eight threads, each with its own Context") {
  const Problem p = make_problem(20, 300, 200);
  const auto layer = Int8Linear::quantize(MatrixView<const float>(p.w.data(), p.n, p.k),
                                          MatrixView<const float>(p.bias.data(), 1, p.n));
  std::vector<std::uint64_t> hashes(8);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < hashes.size(); ++t) {
    threads.emplace_back([&, t] {
      Context context({.executor = std::make_shared<ThreadExecutor>(2)});
      std::vector<float> y(static_cast<std::size_t>(p.m * p.n));
      for (int repeat = 0; repeat < 5; ++repeat) {
        layer.forward(context, MatrixView<const float>(p.x.data(), p.m, p.k),
                      MatrixView<float>(y.data(), p.m, p.n));
      }
      hashes[t] = hash_of(y);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::uint64_t hash : hashes) CHECK(hash == hashes[0]);
}

TEST_CASE("the hot path stops allocating: the workspace is kept") {
  const Problem p = make_problem(16, 64, 128);
  Context context({.executor = inline_executor()});
  run(p, context);
  const std::size_t held = context.workspace_size();
  CHECK(held > 0);
  run(p, context);
  CHECK(context.workspace_size() == held);
}

}  // namespace kvant::test
