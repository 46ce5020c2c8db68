// From codes [N, K] to packed weights ready to multiply, once per layer when a model is loaded; and
// the same from a file that packed weights were saved to (what "map"). The figure counts bytes of
// codes; ceiling: the best streaming read of as many bytes.

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "harness/entries.hpp"
#include "harness/machine.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "pack", "packing weights against the streaming read");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    const std::int64_t bytes = s.n * s.k;
    const std::vector<std::int8_t> codes = normal_codes(s.n, s.k, 1);
    const MatrixView<const std::int8_t> view(codes.data(), s.n, s.k);
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      PackedMatrix packed;
      const double gigabytes = 1e-9 * static_cast<double>(bytes);
      std::vector<Entry> entries = {
          {"kvant", gigabytes, [&] { packed = pack_codes(context, view); }}};
      const std::string file = (std::filesystem::temp_directory_path() /
                                ("kvant-bench-" + std::to_string(::getpid()) + ".packed"))
                                   .string();
      pack_codes(context, view).save(file);
      PackedMatrix mapped;
      entries.push_back({"map", gigabytes, [&] { mapped = PackedWeights::map(context, file); }});
      add_streams(entries, codes.data(), bytes, 1, threads);
      const std::vector<Figure> figures = race(entries, options.quick);
      std::vector<std::int8_t> back(static_cast<std::size_t>(s.k));
      for (const PackedWeights& weights : {packed, mapped}) {
        weights.unpack_rows(s.n - 1, MatrixView<std::int8_t>(back.data(), 1, s.k));
        if (!std::equal(back.begin(), back.end(), view.row_data(s.n - 1))) {
          report.wrong("pack: codes differ");
        }
      }
      std::filesystem::remove(file);
      Record record{.question = "pack",
                    .m = s.m,
                    .n = s.n,
                    .k = s.k,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "int8",
                    .unit = "GB/s"};
      record.value = figures[0];
      for (std::size_t i = 2; i < figures.size(); ++i)
        record.ceiling = std::max(record.ceiling, figures[i].value);
      report.add(record);
      record.m = 0;
      record.what = fmt::format("map {}x{}", s.n, s.k);
      record.value = figures[1];
      report.add(record);
    }
  }
  return report.finish();
}
