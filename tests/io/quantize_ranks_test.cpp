// Folders quantized by ranks, here threads: the bytes of one process, which rank 0 writes.

#include <fstream>
#include <iterator>
#include <kvant/io/quantize_checkpoint.hpp>
#include <map>
#include <string>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"
#include "support/thread_ranks.hpp"

namespace {

using kvant::Ranks;
using kvant::io::QuantizeCheckpointOptions;
using kvant::test::run_ranks;

std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] =
        std::string(std::istreambuf_iterator<char>(stream), {});
  }
  return files;
}

const std::filesystem::path kSource = KVANT_SOURCE_DIR;

}  // namespace

TEST_CASE("quantize by ranks: the bytes of one process, for every scheme and transposed weights") {
  for (const auto& model : {kSource / "examples/models/tiny-code-model/model",
                            kSource / "tests/data/families/gpt2_inverse_layer"}) {
    for (const auto scheme : {kvant::io::WeightScheme::llm_int8, kvant::io::WeightScheme::fp16,
                              *kvant::io::weight_scheme_from_name("nf4")}) {
      const kvant::test::TempFolder folder;
      QuantizeCheckpointOptions options;
      options.scheme = scheme;
      options.block = scheme.format == kvant::WeightFormat::nf4 ? 32 : 0;
      options.job.threads = 2;
      options.job.max_shard_size = 400'000;
      const auto alone = quantize_checkpoint(model, folder.path() / "one", options);
      for (const int size : {1, 2, 5}) {
        INFO(model << " " << to_string(scheme) << " " << size);
        const auto out = folder.path() / ("many" + std::to_string(size));
        run_ranks(size, [&](Ranks& ranks) {
          QuantizeCheckpointOptions shared = options;
          shared.job.ranks = &ranks;
          const auto summary = quantize_checkpoint(model, out, shared);
          if (summary.shards != alone.shards) throw std::runtime_error("other shards");
        });
        CHECK(files_of(folder.path() / "one") == files_of(out));
      }
      // Nothing temporary is left.
      CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 4);
    }
  }
}

TEST_CASE("quantize by ranks: what is there is not replaced, and every rank fails") {
  const kvant::test::TempFolder folder;
  const auto model = kSource / "examples/models/tiny-code-model/model";
  std::filesystem::create_directory(folder.path() / "out");
  std::ofstream(folder.path() / "out/precious") << "x";
  CHECK_THROWS_WITH(run_ranks(3,
                              [&](Ranks& ranks) {
                                QuantizeCheckpointOptions options;
                                options.job.ranks = &ranks;
                                (void)quantize_checkpoint(model, folder.path() / "out", options);
                              }),
                    Catch::Contains("exists already"));
  CHECK(files_of(folder.path() / "out").size() == 1);
}
