// s8 x s8 -> s32, and scaled to float: how near to the multiply instruction's own limit, and how
// far from the peers. Weights are packed once; activations are converted in every run. Codes of
// both are distributed as quantization leaves them, a bell of which few are large; "uniform" has
// all codes equally often on both sides, which no layer has and which is the worst case of some
// instructions.

#include <fmt/core.h>

#include "harness/entries.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

/// Compares a sample of y with the definition.
bool is_right(const std::vector<std::int8_t>& x, const std::vector<std::int8_t>& w, const Shape& s,
              const std::function<float(std::int64_t, std::int64_t)>& y) {
  for (std::int64_t i = 0; i < 40; ++i) {
    const std::int64_t m = i * 7919 % s.m;
    const std::int64_t n = i == 0 ? s.n - 1 : i * 104729 % s.n;
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < s.k; ++k) {
      sum += std::int64_t{x[static_cast<std::size_t>(m * s.k + k)]} *
             w[static_cast<std::size_t>(n * s.k + k)];
    }
    const double want = static_cast<double>(sum);
    const double got = y(m, n);
    if (std::abs(got - want) > 1.0 + 1e-6 * std::abs(want)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "int8_gemm", "int8 GEMM against its ceiling and the peers");
  const std::string isa(Context().isa());
  Report report(options, isa);
  report.note("ceiling: " + std::string(ceiling_name(isa)) + " on registers");
  for (const Shape& s : options.shapes) {
    const auto x = normal_codes(s.m, s.k, 1);
    const auto w = normal_codes(s.n, s.k, 2);
    const auto uniform_x = random_codes(s.m * s.k, 6);
    const auto uniform = random_codes(s.n * s.k, 7);
    const auto xf = normal_floats(s.m * s.k, 3);
    const auto wf = normal_floats(s.n * s.k, 4);
    const double work =
        2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      const PackedMatrix packed =
          pack_codes(context, MatrixView<const std::int8_t>(w.data(), s.n, s.k));
      const MatrixView<const std::int8_t> a(x.data(), s.m, s.k);
      const MatrixView<const std::int8_t> a_uniform(uniform_x.data(), s.m, s.k);
      const PackedMatrix packed_uniform =
          pack_codes(context, MatrixView<const std::int8_t>(uniform.data(), s.n, s.k));
      std::vector<std::int32_t> sums_uniform(static_cast<std::size_t>(s.m * s.n));
      std::vector<std::int32_t> sums(static_cast<std::size_t>(s.m * s.n));
      std::vector<float> floats(sums.size());
      const std::vector<float> rows(static_cast<std::size_t>(s.m), 1.0f);
      const std::vector<float> columns(static_cast<std::size_t>(s.n), 1.0f);
      std::vector<Entry> entries = {
          ceiling_entry(isa, threads),
          {"s32", work,
           [&] {
             int8_matmul(context, a, packed, MatrixView<std::int32_t>(sums.data(), s.m, s.n));
           }},
          {"uniform", work,
           [&] {
             int8_matmul(context, a_uniform, packed_uniform,
                         MatrixView<std::int32_t>(sums_uniform.data(), s.m, s.n));
           }},
          {"f32", work, [&] {
             int8_matmul(context, a, packed, rows, columns,
                         MatrixView<float>(floats.data(), s.m, s.n));
           }}};
      const PeerRun peers[] = {onednn_s8(x.data(), w.data(), s.m, s.n, s.k, false, threads),
                               onednn_s8(x.data(), w.data(), s.m, s.n, s.k, true, threads),
                               onednn_float(xf.data(), wf.data(), s.m, s.n, s.k, true, threads),
                               onednn_float(xf.data(), wf.data(), s.m, s.n, s.k, false, threads),
                               openblas_sgemm(xf.data(), wf.data(), s.m, s.n, s.k, threads),
                               eigen_float(xf.data(), wf.data(), s.m, s.n, s.k, threads)};
      for (const PeerRun& peer : peers) {
        if (!peer.run) {
          report.note_absent(peer.name);
          continue;
        }
        entries.push_back({peer.name, work, peer.run});
      }
      for (int i = 1; i <= 3; ++i) entries[static_cast<std::size_t>(i)].run();
      const auto at = [&](std::int64_t m, std::int64_t n) {
        return static_cast<std::size_t>(m * s.n + n);
      };
      if (!is_right(x, w, s, [&](auto m, auto n) { return static_cast<float>(sums[at(m, n)]); }) ||
          !is_right(uniform_x, uniform, s,
                    [&](auto m, auto n) { return static_cast<float>(sums_uniform[at(m, n)]); }) ||
          !is_right(x, w, s, [&](auto m, auto n) { return floats[at(m, n)]; })) {
        report.wrong(fmt::format("int8_gemm {}x{}x{}", s.m, s.n, s.k));
      }
      peers[0].run ? peers[0].run() : void();
      if (peers[0].run && !is_right(x, w, s, peers[0].y)) {
        report.note(fmt::format("onednn_s8 is wrong at {}x{}x{} (it saturates)", s.m, s.n, s.k));
      }
      const std::vector<Figure> figures = race(entries, options.quick);
      Record record{.question = "int8_gemm",
                    .m = s.m,
                    .n = s.n,
                    .k = s.k,
                    .threads = threads,
                    .isa = isa,
                    .unit = "GOPS"};
      record.ceiling = figures[0].value;
      set_peers(record, entries, figures, 4, entries.size());
      record.dtype = "s8s8s32";
      record.value = figures[1];
      report.add(record);
      record.dtype = "s8s8f32";
      record.value = figures[3];
      report.add(record);
      record.dtype = "uniform";
      record.value = figures[2];
      report.add(record);
    }
  }
  return report.finish();
}
