// Decode: one to eight rows, weights cold, as in the generation of text, where each layer's weights
// come from memory once per token. A ring of matrices of cold_bytes together; ceiling: the best
// streaming read of the same bytes.

#include <fmt/core.h>

#include <algorithm>

#include "harness/entries.hpp"
#include "harness/machine.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

/// How many matrices of this size make the ring.
std::int64_t ring_size(std::int64_t bytes) {
  return std::max<std::int64_t>(4, cold_bytes() / bytes + 1);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "decode", "few rows, cold weights: against the streaming read");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    const std::int64_t bytes = s.n * s.k;
    const std::int64_t ring = ring_size(bytes);
    report.note(
        fmt::format("ring of {} matrices of {:.1f} MB", ring, 1e-6 * static_cast<double>(bytes)));
    const auto w = normal_floats(s.n * s.k, 1, 0.02f);
    std::vector<bfloat16> x;
    for (const float v : normal_floats(s.m * s.k, 2)) x.emplace_back(v);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      std::vector<Int8Linear> layers;
      {
        const auto first =
            Int8Linear::quantize(context, MatrixView<const float>(w.data(), s.n, s.k));
        const auto codes = first.codes();
        for (std::int64_t i = 0; i < ring; ++i) {
          layers.push_back(Int8Linear::from_codes(
              context, MatrixView<const std::int8_t>(codes.data(), s.n, s.k), first.absmax()));
        }
      }
      std::vector<bfloat16> y(static_cast<std::size_t>(s.m * s.n));
      std::size_t at = 0;
      const auto forward = [&] {
        layers[at].forward(context, MatrixView<const bfloat16>(x.data(), s.m, s.k),
                           MatrixView<bfloat16>(y.data(), s.m, s.n));
        at = (at + 1) % layers.size();
      };
      const AlignedArray<std::byte> cold(static_cast<std::size_t>(ring * bytes), std::byte{1});
      const double gigabytes = 1e-9 * static_cast<double>(bytes);
      std::vector<Entry> entries = {{"kvant", gigabytes, forward}};
      add_streams(entries, cold.data(), bytes, ring, threads);
      const std::size_t first_peer = entries.size();
      // Float peers read 2 or 4 bytes a weight: their figure is the same bytes of int8 weights, so
      // that the ratio is that of the times. A smaller ring of as many bytes keeps them cold.
      const std::int64_t float_ring = std::max<std::int64_t>(2, ring / 4 + 1);
      const auto add_ring = [&](const std::function<PeerRun()>& make, std::int64_t count) {
        auto members = std::make_shared<std::vector<PeerRun>>();
        for (std::int64_t i = 0; i < count; ++i) {
          members->push_back(make());
          if (!members->back().run) {
            report.note_absent(members->back().name);
            return;
          }
        }
        auto turn = std::make_shared<std::size_t>(0);
        entries.push_back({members->front().name, gigabytes, [members, turn] {
                             (*members)[*turn].run();
                             *turn = (*turn + 1) % members->size();
                           }});
      };
      const std::vector<float> xf = normal_floats(s.m * s.k, 3);
      const auto wc = random_codes(s.n * s.k, 4);
      const auto xc = random_codes(s.m * s.k, 5);
      add_ring([&] { return onednn_s8(xc.data(), wc.data(), s.m, s.n, s.k, true, threads); }, ring);
      add_ring([&] { return onednn_float(xf.data(), w.data(), s.m, s.n, s.k, true, threads); },
               ring / 2 + 1);
      add_ring([&] { return onednn_float(xf.data(), w.data(), s.m, s.n, s.k, false, threads); },
               float_ring);
      {
        auto copies = std::make_shared<std::vector<std::vector<float>>>(
            static_cast<std::size_t>(float_ring), w);
        auto next = std::make_shared<std::size_t>(0);
        add_ring(
            [&, copies, next] {
              const float* weights = (*copies)[(*next)++ % copies->size()].data();
              PeerRun run = openblas_sgemm(xf.data(), weights, s.m, s.n, s.k, threads);
              if (run.run) run.run = [inner = run.run, copies] { inner(); };
              return run;
            },
            float_ring);
      }
      {
        std::vector<Bf16Linear> halves;
        for (std::int64_t i = 0; i < ring / 2 + 1; ++i) {
          halves.push_back(Bf16Linear::pack(context, MatrixView<const float>(w.data(), s.n, s.k)));
        }
        auto turn = std::make_shared<std::size_t>(0);
        entries.push_back({"kvant_bf16", gigabytes, [&, halves, turn] {
                             halves[*turn].forward(context,
                                                   MatrixView<const bfloat16>(x.data(), s.m, s.k),
                                                   MatrixView<bfloat16>(y.data(), s.m, s.n));
                             *turn = (*turn + 1) % halves.size();
                           }});
      }
      const std::vector<Figure> figures = race(entries, options.quick);
      Record record{.question = "decode",
                    .m = s.m,
                    .n = s.n,
                    .k = s.k,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "bf16",
                    .unit = "GB/s"};
      record.value = figures[0];
      for (std::size_t i = 1; i < first_peer; ++i)
        record.ceiling = std::max(record.ceiling, figures[i].value);
      set_peers(record, entries, figures, first_peer, entries.size());
      report.add(record);
    }
  }
  return report.finish();
}
