// Layers over MPI: every rank computes the whole by itself, and compares.

#include <csignal>
#include <cstring>
#include <kvant/mpi.hpp>
#include <string>
#include <vector>

#include "mpi/world.hpp"
#include "support/catch.hpp"

namespace {

using kvant::Context;
using kvant::MatrixView;
using kvant::WeightFormat;
using kvant::test::random_values;
using kvant::test::world;

}  // namespace

TEST_CASE("layers over MPI: the bits of one process in every format") {
  Context context({.threads = 1});
  constexpr std::int64_t m = 5;
  constexpr std::int64_t k = 1536;
  constexpr std::int64_t n = 1536;  // 12 squares of fp8-block
  std::vector<float> x = random_values(m * k);
  x[7] = 40.0f;
  const std::vector<float> w = random_values(n * k);
  const MatrixView<const float> weights(w.data(), n, k);
  for (const auto& info : kvant::weight_format_table()) {
    if (info.is_gguf()) continue;  // made of blocks alone
    INFO(info.name << " on rank " << world().rank() << " of " << world().size());
    std::vector<float> wanted(m * n);
    kvant::Linear::quantize(context, weights, info.format)
        .forward(context, MatrixView<const float>(x.data(), m, k),
                 MatrixView<float>(wanted.data(), m, n));
    const auto layer = kvant::RowParallelLinear::quantize(world(), context, weights, info.format);
    std::vector<float> y(m * n);
    layer.forward(
        context,
        MatrixView<const float>(x.data() + layer.inputs().begin, m, layer.inputs().size(), k),
        MatrixView<float>(y.data(), m, n));
    CHECK(std::memcmp(y.data(), wanted.data(), y.size() * sizeof(float)) == 0);
  }
  CHECK((world().traffic().bytes_sent > 0) == (world().size() > 1));
}

TEST_CASE("layers over MPI: gather, broadcast, max and or") {
  const auto size = static_cast<std::size_t>(world().size());
  const auto rank = static_cast<std::size_t>(world().rank());
  const std::vector<std::byte> mine(rank + 1, static_cast<std::byte>(rank));
  std::vector<std::int64_t> sizes;
  for (std::size_t r = 0; r < size; ++r) sizes.push_back(static_cast<std::int64_t>(r) + 1);
  std::vector<std::byte> all(size * (size + 1) / 2);
  world().gather(mine, sizes, all.data());
  if (rank == 0) CHECK(all.back() == static_cast<std::byte>(size - 1));
  std::int32_t chosen = rank == 0 ? 42 : 0;
  world().broadcast(std::as_writable_bytes(std::span(&chosen, 1)));
  CHECK(chosen == 42);
  std::vector<float> largest = {static_cast<float>(rank), rank == size - 1 ? NAN : 1.0f};
  world().all_max(largest);
  CHECK(largest[0] == static_cast<float>(size - 1));
  CHECK(std::isnan(largest[1]));
  std::uint32_t bits = 1u << rank;
  world().all_or({&bits, 1});
  CHECK(bits == (1u << size) - 1);
}

TEST_CASE("a rank leaves the others: it fails") {
  std::signal(SIGTERM, SIG_IGN);  // the launcher's, once the first rank is gone
  const int last = world().size() - 1;
  if (world().rank() == last) {
    world().fail("the reason");
    return;
  }
  std::string message;
  try {
    for (int i = 0; i < 1000; ++i) world().wait_for_all();
  } catch (const kvant::Error& error) {
    message = error.what();
    CHECK(error.code() == kvant::ErrorCode::cancelled);
  }
  CHECK(message == "rank " + std::to_string(last) + ": the reason");
  CHECK(world().failed());
  world().fail(message);
}
