// From a checkpoint on disk (in the page cache) to packed layers: safetensors checked and mapped,
// codes packed. The figure counts bytes of codes; ceiling: the best streaming read of as many
// bytes.

#include <unistd.h>
#include <filesystem>
#include <kvant/io/safetensors.hpp>
#include <kvant/io/safetensors_writer.hpp>

#include "harness/entries.hpp"
#include "harness/report.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "load", "loading a checkpoint into packed layers");
  const std::string isa(Context().isa());
  Report report(options, isa);
  for (const Shape& s : options.shapes) {
    constexpr int kLayers = 4;
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() /
        ("kvant_bench_load_" + std::to_string(getpid()) + ".safetensors");
    const std::vector<std::int8_t> codes = normal_codes(s.n, s.k, 1);
    const std::vector<float> scales(static_cast<std::size_t>(s.n), 1.5f);
    {
      io::SafeTensorsWriter writer;
      for (int i = 0; i < kLayers; ++i) {
        const std::string name = "layer." + std::to_string(i);
        writer.add(name + ".weight", DType::int8,
                   {static_cast<std::uint64_t>(s.n), static_cast<std::uint64_t>(s.k)},
                   std::as_bytes(std::span(codes)));
        writer.add(name + ".SCB", DType::float32, {static_cast<std::uint64_t>(s.n)},
                   std::as_bytes(std::span(scales)));
      }
      writer.write(path);
    }
    for (const int threads : options.threads) {
      Context context({.threads = threads});
      std::vector<Int8Linear> layers;
      const std::int64_t bytes = kLayers * s.n * s.k;
      const auto load = [&] {
        layers.clear();
        const io::SafeTensors file(path);
        for (int i = 0; i < kLayers; ++i) {
          const std::string name = "layer." + std::to_string(i);
          layers.push_back(Int8Linear::from_codes(context,
                                                  file.matrix<std::int8_t>(name + ".weight"),
                                                  file.matrix<float>(name + ".SCB").row(0)));
        }
      };
      std::vector<Entry> entries = {{"kvant", 1e-9 * static_cast<double>(bytes), load}};
      const AlignedArray<std::byte> memory(static_cast<std::size_t>(bytes), std::byte{1});
      add_streams(entries, memory.data(), bytes, 1, threads);
      const std::vector<Figure> figures = race(entries, options.quick);
      if (layers.size() != kLayers || layers[0].absmax()[0] != 1.5f)
        report.wrong("load: layers differ");
      Record record{.question = "load",
                    .m = 0,
                    .n = 0,
                    .k = 0,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "int8",
                    .unit = "GB/s"};
      record.what =
          std::to_string(kLayers) + " layers " + std::to_string(s.n) + "x" + std::to_string(s.k);
      record.value = figures[0];
      for (std::size_t i = 1; i < figures.size(); ++i)
        record.ceiling = std::max(record.ceiling, figures[i].value);
      report.add(record);
    }
    std::filesystem::remove(path);
  }
  return report.finish();
}
