// The three projections of an attention block that take the same input, in LLM.int8() with 6
// outlier features found: quantizing the input once for all three, against each forward by itself.
// Peer "stacked": the same weights as one layer, what fusing them beforehand would reach.

#include <fmt/core.h>

#include "harness/entries.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "qkv", "one quantization for q, k and v against three");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    const std::int64_t width = s.n;
    const std::int64_t all = width + 2 * s.k;
    std::vector<float> x = normal_floats(s.m * width, 1);
    for (std::int64_t m = 0; m < s.m; ++m) {
      for (const std::int64_t k : {3, 100, 257, 700, 1111, 1900}) {
        x[static_cast<std::size_t>(m * width + k % width)] = 30.0f;
      }
    }
    std::vector<bfloat16> half;
    for (const float v : x) half.emplace_back(v);
    const MatrixView<const bfloat16> input(half.data(), s.m, width);
    const std::vector<float> w = normal_floats(all * width, 2, 0.02f);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      const auto layer = [&](std::int64_t first, std::int64_t rows) {
        return Linear::quantize(context,
                                MatrixView<const float>(w.data() + first * width, rows, width),
                                WeightFormat::int8_row);
      };
      const Linear projections[] = {layer(0, width), layer(width, s.k), layer(width + s.k, s.k)};
      const Linear stacked = layer(0, all);
      std::vector<bfloat16> y(static_cast<std::size_t>(s.m * all));
      QuantizedActivations activations;
      const auto each = [&](auto&& forward) {
        bfloat16* to = y.data();
        for (const Linear& projection : projections) {
          forward(projection, MatrixView<bfloat16>(to, s.m, projection.out_features()));
          to += s.m * projection.out_features();
        }
      };
      const double work =
          2e-9 * static_cast<double>(s.m) * static_cast<double>(all) * static_cast<double>(width);
      const std::vector<Entry> entries = {
          ceiling_entry(isa, threads),
          {"shared", work,
           [&] {
             projections[0].quantize_activations(context, input, activations);
             each([&](const Linear& l, AnyMatrix to) { l.forward(context, activations, to); });
           }},
          {"separate", work,
           [&] { each([&](const Linear& l, AnyMatrix to) { l.forward(context, input, to); }); }},
          {"stacked", work,
           [&] { stacked.forward(context, input, MatrixView<bfloat16>(y.data(), s.m, all)); }}};
      const std::vector<Figure> figures = race(entries, options.quick);
      Record record{.question = "qkv",
                    .m = s.m,
                    .n = s.n,
                    .k = s.k,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "bf16",
                    .outliers = 6,
                    .unit = "GOPS"};
      record.value = figures[1];
      record.ceiling = figures[0].value;
      set_peers(record, entries, figures, 2, entries.size());
      report.add(record);
    }
  }
  return report.finish();
}
