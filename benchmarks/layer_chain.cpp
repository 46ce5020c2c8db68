// The four linears of a GPTBigCode block, one after the other, in LLM.int8() with 6 outlier
// features whose weights are kept, against the same chain in half and single precision.

#include <fmt/core.h>

#include "harness/entries.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "layer_chain", "the four linears of a GPTBigCode block");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    const std::int64_t width = s.n;
    const std::int64_t inner = s.k;
    const std::pair<std::int64_t, std::int64_t> linears[] = {// outputs, inputs
                                                             {width + 256, width},
                                                             {width, width},
                                                             {inner, width},
                                                             {width, inner}};
    const std::vector<std::int64_t> outliers = {3, 100, 257, 700, 1111, 2000};
    std::vector<float> x = normal_floats(s.m * inner, 1);
    for (std::int64_t m = 0; m < s.m; ++m) {
      for (const std::int64_t k : outliers) {
        x[static_cast<std::size_t>(m * inner + k)] = 30.0f;
      }
    }
    const std::vector<float> w = normal_floats((inner)*width, 2, 0.02f);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      double work = 0;
      std::vector<Int8Linear> int8;
      std::vector<Bf16Linear> bf16;
      std::vector<PeerRun> peer_bf16;
      std::vector<PeerRun> peer_f32;
      for (const auto& [out, in] : linears) {
        work +=
            2e-9 * static_cast<double>(s.m) * static_cast<double>(out) * static_cast<double>(in);
        const MatrixView<const float> view(w.data(), out, in);
        int8.push_back(Int8Linear::quantize(context, view, {}, {.keep_columns = outliers}));
        bf16.push_back(Bf16Linear::pack(context, view));
        peer_bf16.push_back(onednn_float(x.data(), w.data(), s.m, out, in, true, threads));
        peer_f32.push_back(onednn_float(x.data(), w.data(), s.m, out, in, false, threads));
      }
      std::vector<float> y(static_cast<std::size_t>(s.m * std::max(inner, width + 256)));
      const auto chain = [&](auto& layers) {
        for (auto& layer : layers) {
          layer.forward(context, MatrixView<const float>(x.data(), s.m, layer.in_features()),
                        MatrixView<float>(y.data(), s.m, layer.out_features()));
        }
      };
      std::vector<Entry> entries = {ceiling_entry(isa, threads),
                                    {"kvant", work, [&] { chain(int8); }},
                                    {"kvant_bf16", work, [&] { chain(bf16); }}};
      for (const auto* peers : {&peer_bf16, &peer_f32}) {
        if (!peers->front().run) {
          report.note_absent(peers->front().name);
          continue;
        }
        entries.push_back({peers->front().name, work, [peers] {
                             for (const PeerRun& peer : *peers) peer.run();
                           }});
      }
      const std::vector<Figure> figures = race(entries, options.quick);
      Record record{.question = "layer_chain",
                    .m = 0,
                    .n = 0,
                    .k = 0,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "fp32",
                    .outliers = 6,
                    .unit = "GOPS"};
      record.what = fmt::format("M {} of {}", s.m, width);
      record.value = figures[1];
      record.ceiling = figures[0].value;
      set_peers(record, entries, figures, 2, entries.size());
      report.add(record);
    }
  }
  return report.finish();
}
