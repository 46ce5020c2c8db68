// How a matrix product is cut into tasks: every tile once, and threads get equal shares.

#include "ops/linear/parallel_tiles.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/isa.hpp"
#include "support/catch.hpp"

namespace {

using namespace kvant;

/// Runs the ranges of two threads one after the other and says whose turn it is.
class TurnsExecutor final : public Executor {
 public:
  [[nodiscard]] int concurrency() const noexcept override { return 2; }
  void parallel_for(std::int64_t count, RangeFunction function) override {
    for (turn = 0; turn < 2; ++turn) function(count * turn / 2, count * (turn + 1) / 2);
    turn = 0;  // whatever is too small to share runs without the executor: the first thread's
  }
  int turn = 0;
};

std::function<void(const TileRange&)> recorder;

}  // namespace

TEST_CASE("parallel_tiles: every tile once, equal shares for two threads") {
  for (const IsaInfo& info : instruction_sets()) {
    if (!info.available) continue;
    const std::string_view isa = info.name;
    const auto executor = std::make_shared<TurnsExecutor>();
    Context context({.isa = isa, .executor = executor});
    for (const std::int64_t m : {1, 7, 33, 511, 512, 513, 2048}) {
      for (const std::int64_t panels : {1, 2, 86, 257}) {
        GemmArgs args{};
        args.range.m = m;
        args.range.k_padded = 4096;
        GemmKernels kernels = context.kernels().gemm_for(WeightFormat::int8_row);
        const RowBlocks blocks = kernels.blocks(m);
        std::vector<int> seen(static_cast<std::size_t>(blocks.count() * panels), 0);
        std::int64_t tiles[2] = {0, 0};
        // The product only notes its tiles.
        recorder = [&](const TileRange& part) {
          for (std::int64_t b = part.block_begin; b < part.block_end; ++b) {
            for (std::int64_t p = part.panel_begin; p < part.panel_end; ++p) {
              ++seen[static_cast<std::size_t>(b * panels + p)];
              ++tiles[executor->turn];
            }
          }
        };
        kernels.gemm = [](const GemmArgs& part) noexcept { recorder(part.range); };
        detail::parallel_tiles(context, args, kernels, panels, std::int64_t{1} << 40);
        INFO(isa << ", " << m << " rows, " << panels << " panels: " << tiles[0] << " and "
                 << tiles[1] << " tiles");
        CHECK(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
        // A task is a column of row blocks: one of them, and a block per run, may be over.
        const std::int64_t all = tiles[0] + tiles[1];
        if (all >= 64) CHECK(std::max(tiles[0], tiles[1]) <= all * 6 / 10);
      }
    }
  }
}
