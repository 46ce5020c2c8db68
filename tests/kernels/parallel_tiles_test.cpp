// How a matrix product is cut into tasks: every tile once, and threads get equal shares.

#include "ops/parallel_tiles.hpp"

#include <algorithm>
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
        args.m = m;
        const RowBlocks blocks{m, context.kernels().mr};
        std::vector<int> seen(static_cast<std::size_t>(blocks.count() * panels), 0);
        std::int64_t tiles[2] = {0, 0};
        detail::parallel_tiles(
            context, args, panels, 4096, std::int64_t{1} << 40, [&](const GemmArgs& part) {
              for (std::int64_t b = part.block_begin; b < part.block_end; ++b) {
                for (std::int64_t p = part.panel_begin; p < part.panel_end; ++p) {
                  ++seen[static_cast<std::size_t>(b * panels + p)];
                  ++tiles[executor->turn];
                }
              }
            });
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
