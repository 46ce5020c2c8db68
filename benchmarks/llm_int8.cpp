// LLM.int8(), the whole operation: activations in bf16 or fp32 -> quantize, outliers, GEMM, bias ->
// the same type; with 0, 6 and 64 outlier features, found in each call, 6 whose weights are kept,
// and with scales that were measured beforehand (static), which skips the search.

#include <fmt/core.h>

#include <cmath>
#include <optional>

#include "harness/bare_kernels.hpp"
#include "harness/entries.hpp"
#include "harness/report.hpp"
#include "kvant/linear_quantizer.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

/// Weights up to which a call of one row is compared with its kernels alone.
constexpr std::int64_t kSmallLayer = 1 << 20;

struct Problem {
  Shape shape;
  std::vector<float> x, w, bias;
  std::vector<bfloat16> x_half;
  std::vector<std::int64_t> outliers;
};

Problem make_problem(const Shape& s, int outliers) {
  Problem p{
      s, normal_floats(s.m * s.k, 1), normal_floats(s.n * s.k, 2, 0.02f), normal_floats(s.n, 3), {},
      {}};
  for (float& v : p.x) v = std::fmin(std::fmax(v, -5.0f), 5.0f);
  for (int j = 0; j < outliers && j < s.k; ++j) {
    const std::int64_t column = (j * 2654435761LL + 11) % s.k;
    p.outliers.push_back(column);
    for (std::int64_t m = 0; m < s.m; ++m)
      p.x[static_cast<std::size_t>(m * s.k + column)] = 20.0f + static_cast<float>(m % 7);
  }
  std::sort(p.outliers.begin(), p.outliers.end());
  p.outliers.erase(std::unique(p.outliers.begin(), p.outliers.end()), p.outliers.end());
  for (const float v : p.x) p.x_half.emplace_back(v);
  return p;
}

/// The relative error of a sample of y against float64.
double error_of(const Problem& p, const std::function<float(std::int64_t, std::int64_t)>& y) {
  double error = 0;
  double power = 0;
  for (std::int64_t i = 0; i < 60; ++i) {
    const std::int64_t m = i * 7919 % p.shape.m;
    const std::int64_t n = i == 0 ? p.shape.n - 1 : i * 104729 % p.shape.n;
    double want = p.bias[static_cast<std::size_t>(n)];
    for (std::int64_t k = 0; k < p.shape.k; ++k) {
      want += double{p.x[static_cast<std::size_t>(m * p.shape.k + k)]} *
              p.w[static_cast<std::size_t>(n * p.shape.k + k)];
    }
    error += (y(m, n) - want) * (y(m, n) - want);
    power += want * want;
  }
  return std::sqrt(error / power);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "llm_int8", "LLM.int8() against its ceiling and native precision");
  const std::string isa(Context().isa());
  Report report(options, isa);
  report.note("ceiling: " + std::string(ceiling_name(isa)) + " on registers");
  for (const Shape& s : options.shapes) {
    const double work =
        2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      std::vector<Problem> problems;
      for (const int outliers : {0, 6, 64}) problems.push_back(make_problem(s, outliers));
      struct Variant {
        const char* dtype;
        int outliers;
        const Problem* problem;
        Int8Linear layer;
        std::vector<bfloat16> half;
        std::vector<float> full;
      };
      std::vector<Variant> variants;
      for (const Problem& p : problems) {
        const MatrixView<const float> w(p.w.data(), s.n, s.k);
        const MatrixView<const float> b(p.bias.data(), 1, s.n);
        const auto count = static_cast<std::size_t>(s.m * s.n);
        const int outliers = static_cast<int>(p.outliers.size());
        const auto layer = Int8Linear::quantize(context, w, b);
        variants.push_back({"bf16", outliers, &p, layer, std::vector<bfloat16>(count), {}});
        if (outliers == 0) {
          const QuantParams measured =
              choose_params(context, MatrixView<const float>(p.x.data(), s.m, s.k), int8_affine);
          variants.push_back({"bf16 static",
                              0,
                              &p,
                              Int8Linear::quantize(context, w, b, {.static_params = &measured}),
                              std::vector<bfloat16>(count),
                              {}});
        }
        if (outliers == 6) {
          variants.push_back({"bf16 kept",
                              6,
                              &p,
                              Int8Linear::quantize(context, w, b, {.keep_columns = p.outliers}),
                              std::vector<bfloat16>(count),
                              {}});
          variants.push_back({"fp32", 6, &p, layer, {}, std::vector<float>(count)});
        }
      }
      std::vector<Entry> entries = {ceiling_entry(isa, threads)};
      for (Variant& v : variants) {
        entries.push_back(
            {v.dtype, work, [&v, &s, &context] {
               if (v.full.empty()) {
                 v.layer.forward(context,
                                 MatrixView<const bfloat16>(v.problem->x_half.data(), s.m, s.k),
                                 MatrixView<bfloat16>(v.half.data(), s.m, s.n));
               } else {
                 v.layer.forward(context, MatrixView<const float>(v.problem->x.data(), s.m, s.k),
                                 MatrixView<float>(v.full.data(), s.m, s.n));
               }
             }});
        entries.back().run();
        const double error = error_of(*v.problem, [&](std::int64_t m, std::int64_t n) {
          const auto i = static_cast<std::size_t>(m * s.n + n);
          return v.full.empty() ? static_cast<float>(v.half[i]) : v.full[i];
        });
        if (!(error < 0.03))
          report.wrong(fmt::format("llm_int8 {}x{}x{} {} outliers: error {}", s.m, s.n, s.k,
                                   v.outliers, error));
      }
      const Problem& p = problems[1];
      const auto codes_x = random_codes(s.m * s.k, 5);
      const auto codes_w = random_codes(s.n * s.k, 6);
      const Bf16Linear own_bf16 =
          Bf16Linear::pack(context, MatrixView<const float>(p.w.data(), s.n, s.k),
                           MatrixView<const float>(p.bias.data(), 1, s.n));
      std::vector<bfloat16> own_y(static_cast<std::size_t>(s.m * s.n));
      const std::size_t first_peer = entries.size();
      entries.push_back({"kvant_bf16", work, [&] {
                           own_bf16.forward(context,
                                            MatrixView<const bfloat16>(p.x_half.data(), s.m, s.k),
                                            MatrixView<bfloat16>(own_y.data(), s.m, s.n));
                         }});
      for (const PeerRun& peer :
           {onednn_s8(codes_x.data(), codes_w.data(), s.m, s.n, s.k, true, threads),
            onednn_float(p.x.data(), p.w.data(), s.m, s.n, s.k, true, threads),
            onednn_float(p.x.data(), p.w.data(), s.m, s.n, s.k, false, threads),
            openblas_sgemm(p.x.data(), p.w.data(), s.m, s.n, s.k, threads),
            eigen_float(p.x.data(), p.w.data(), s.m, s.n, s.k, threads)}) {
        if (peer.run) {
          entries.push_back({peer.name, work, peer.run});
        } else {
          report.note_absent(peer.name);
        }
      }
      const std::size_t end_of_peers = entries.size();
      std::optional<BareKernels> bare;
      if (s.m == 1 && s.n * s.k <= kSmallLayer) {
        bare.emplace(context, problems[0].x_half.data(), s.n, s.k);
        entries.push_back({"bare kernels", work, [&] { bare->run(); }});
      }
      const std::vector<Figure> figures = race(entries, options.quick);
      if (bare) {
        report.note(fmt::format("{}x{}x{}: a call takes {:.0f} ns, its two kernels alone {:.0f} ns",
                                s.m, s.n, s.k, 1e9 * work / figures[1].value,
                                1e9 * work / figures[end_of_peers].value));
      }
      Record record{.question = "llm_int8",
                    .m = s.m,
                    .n = s.n,
                    .k = s.k,
                    .threads = threads,
                    .isa = isa,
                    .unit = "GOPS"};
      record.ceiling = figures[0].value;
      set_peers(record, entries, figures, first_peer, end_of_peers);
      for (std::size_t i = 0; i < variants.size(); ++i) {
        record.dtype = variants[i].dtype;
        record.outliers = variants[i].outliers;
        record.value = figures[i + 1];
        report.add(record);
      }
    }
  }
  return report.finish();
}
