// GEMM with weights in groups (4 bits, GGUF's blocks), activations quantized beforehand (the second
// stage of a layer), and the whole layer with and without outliers. Ceiling: the multiply loop of
// int8 on registers. Peers: kvant's int8 layer, ggml's Q4_0.

#include <fmt/core.h>

#include "harness/group_weights.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "gemm4", "GEMM with weights in groups against int8's ceiling");
  const std::string isa(Context().isa());
  Report report(options, isa);
  report.note("ceiling: " + std::string(ceiling_name(isa)) + " on registers");
  for (const Shape& s : options.shapes) {
    const auto w = normal_floats(s.n * s.k, 1, 0.02f);
    const double work =
        2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    std::vector<bfloat16> x;
    for (const float v : normal_floats(s.m * s.k, 2)) x.emplace_back(v);
    std::vector<bfloat16> loud = x;
    for (std::int64_t j = 0; j < 6; ++j) {
      loud[static_cast<std::size_t>(j % s.m * s.k + j * 37 % s.k)] = bfloat16(40.0f);
    }
    const MatrixView<const bfloat16> quiet_view(x.data(), s.m, s.k);
    const MatrixView<const bfloat16> loud_view(loud.data(), s.m, s.k);
    std::vector<bfloat16> y(static_cast<std::size_t>(s.m * s.n));
    const MatrixView<bfloat16> y_view(y.data(), s.m, s.n);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      const Linear int8 =
          Int8Linear::quantize(context, MatrixView<const float>(w.data(), s.n, s.k));
      QuantizedActivations int8_x;
      int8.quantize_activations(context, quiet_view, int8_x);
      for (const GroupCase& c : group_cases(options)) {
        const std::string& format = c.format;
        const int group = c.group;
        const GroupWeights weights(context, format, group, w.data(), s.n, s.k);
        const Linear layer = Linear::from(weights.pack(context));
        QuantizedActivations a;
        layer.quantize_activations(context, quiet_view, a);
        std::vector<Entry> entries = {
            ceiling_entry(isa, threads),
            {"gemm", work, [&] { layer.forward(context, a, y_view); }},
            {"layer", work, [&] { layer.forward(context, quiet_view, y_view); }},
            {"layer, 6 found", work, [&] { layer.forward(context, loud_view, y_view); }},
            {"kvant_int8", work, [&] { int8.forward(context, int8_x, y_view); }}};
        add_ggml(entries, report, work, w.data(), s, threads, 1);
        const std::vector<Figure> figures = race(entries, options.quick);
        Record record{.question = "gemm4",
                      .m = s.m,
                      .n = s.n,
                      .k = s.k,
                      .threads = threads,
                      .isa = isa,
                      .unit = "GOPS",
                      .format = format,
                      .group = group};
        record.ceiling = figures[0].value;
        set_peers(record, entries, figures, 4, entries.size());
        const auto add = [&](const char* what, std::size_t entry, int outliers) {
          record.dtype = fmt::format("{}/{}{}", format, group, what);
          record.value = figures[entry];
          record.outliers = outliers;
          report.add(record);
        };
        add("", 1, 0);
        add(" bf16", 2, 0);
        add(" bf16", 3, 6);
      }
    }
  }
  return report.finish();
}
