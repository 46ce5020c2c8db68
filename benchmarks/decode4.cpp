// Decode with weights in groups (4 bits, GGUF's blocks): one to eight rows, weights cold. Ceiling:
// the best streaming read of as many bytes as codes, scales and zero points have. Peers: kvant's
// int8 layer in the same run (its figure counts the same bytes, so that the ratio is that of tokens
// per second), the same weights in int15 arithmetic, ggml's Q4_0.

#include <fmt/core.h>

#include <algorithm>

#include "harness/group_weights.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

constexpr std::int64_t kRingBytes = std::int64_t{1} << 30;

/// Takes turns through a ring of layers.
Entry ring_entry(std::string name, double work, std::vector<Linear> layers, Context& context,
                 const std::vector<bfloat16>& x, std::vector<bfloat16>& y, const Shape& s) {
  auto at = std::make_shared<std::size_t>(0);
  return {std::move(name), work, [=, &context, &x, &y, layers = std::move(layers)] {
            layers[*at].forward(context, MatrixView<const bfloat16>(x.data(), s.m, s.k),
                                MatrixView<bfloat16>(y.data(), s.m, s.n));
            *at = (*at + 1) % layers.size();
          }};
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "decode4", "few rows, cold weights in groups: against the read");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    const auto w = normal_floats(s.n * s.k, 1, 0.02f);
    std::vector<bfloat16> x;
    for (const float v : normal_floats(s.m * s.k, 2)) x.emplace_back(v);
    std::vector<bfloat16> y(static_cast<std::size_t>(s.m * s.n));
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      std::vector<Linear> int8;
      {
        const auto first =
            Int8Linear::quantize(context, MatrixView<const float>(w.data(), s.n, s.k));
        const auto codes = first.codes();
        for (std::int64_t i = 0; i < kRingBytes / (s.n * s.k) + 1; ++i) {
          int8.push_back(Int8Linear::from_codes(
              context, MatrixView<const std::int8_t>(codes.data(), s.n, s.k), first.absmax()));
        }
      }
      for (const GroupCase& c : group_cases(options)) {
        const std::string& format = c.format;
        const int group = c.group;
        const GroupWeights weights(context, format, group, w.data(), s.n, s.k);
        const std::int64_t bytes = weights.bytes();
        const std::int64_t ring = kRingBytes / bytes + 1;
        std::vector<Linear> layers;
        std::vector<Linear> int15;  // over the same weights
        for (std::int64_t i = 0; i < ring; ++i) {
          layers.push_back(Linear::from(weights.pack(context)));
          int15.push_back(
              Linear::from(layers.back().weights(), {}, {.arithmetic = Arithmetic::int15}));
        }
        const AlignedArray<std::byte> cold(static_cast<std::size_t>(ring * bytes), std::byte{1});
        const double gigabytes = 1e-9 * static_cast<double>(bytes);
        std::vector<Entry> entries = {
            ring_entry("kvant", gigabytes, std::move(layers), context, x, y, s)};
        add_streams(entries, cold.data(), bytes, ring, threads);
        const std::size_t first_peer = entries.size();
        entries.push_back(ring_entry("kvant_int8", gigabytes, int8, context, x, y, s));
        entries.push_back(ring_entry("kvant_int15", gigabytes, std::move(int15), context, x, y, s));
        add_ggml(entries, report, gigabytes, w.data(), s, threads, ring);
        const std::vector<Figure> figures = race(entries, options.quick);
        Record record{.question = "decode4",
                      .m = s.m,
                      .n = s.n,
                      .k = s.k,
                      .threads = threads,
                      .isa = isa,
                      .dtype = fmt::format("{}/{}", format, group),
                      .unit = "GB/s",
                      .format = format,
                      .group = group};
        record.value = figures[0];
        for (std::size_t i = 1; i < first_peer; ++i) {
          record.ceiling = std::max(record.ceiling, figures[i].value);
        }
        set_peers(record, entries, figures, first_peer, entries.size());
        report.add(record);
      }
    }
  }
  return report.finish();
}
