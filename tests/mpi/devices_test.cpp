// Layers on devices over MPI: by way of the hosts, and by a library with NCCL's interface.

#include <dlfcn.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <kvant/mpi.hpp>
#include <string>
#include <vector>

#include "cuda/emulator/emulated_cuda.hpp"
#include "mpi/world.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace kvant::test {
namespace {

const std::string kLibrary = KVANT_NCCL_STAND_IN;

/// How often the library has moved something.
int calls() {
  void* const handle = ::dlopen(kLibrary.c_str(), RTLD_NOW | RTLD_LOCAL);
  REQUIRE(handle != nullptr);
  const auto count = reinterpret_cast<int (*)()>(::dlsym(handle, "nccl_stand_in_calls"));
  REQUIRE(count != nullptr);
  return count();
}

/// y of the layer on all ranks' devices against one process, twice; at most `waits` waits of a
/// call.
void check_layer(mpi::Communicator& ranks, std::int64_t m, std::int64_t n, std::int64_t k,
                 int waits) {
  INFO(m << ", " << n << ", " << k << " on rank " << ranks.rank() << " of " << ranks.size());
  std::vector<float> x = random_values(m * k);
  x[static_cast<std::size_t>(k / 3)] = 50;
  const std::vector<float> w = random_values(n * k);
  const MatrixView<const float> weights(w.data(), n, k);
  Context host({.threads = 1});
  std::vector<float> wanted(static_cast<std::size_t>(m * n));
  Linear::quantize(host, weights, WeightFormat::int8_row)
      .forward(host, MatrixView<const float>(x.data(), m, k),
               MatrixView<float>(wanted.data(), m, n));

  Context context({.kernels = &emulated_cuda_device});
  const auto layer = RowParallelLinear::quantize(ranks, context, weights, WeightFormat::int8_row);
  const Share inputs = layer.inputs();
  std::vector<float> own;
  for (std::int64_t r = 0; r < m; ++r) {
    own.insert(own.end(), x.begin() + r * k + inputs.begin, x.begin() + r * k + inputs.end);
  }
  const DeviceCopy there(own.data(), own.size() * sizeof(float));
  const DeviceCopy result(nullptr, wanted.size() * sizeof(float));
  for (int again = 0; again < 2; ++again) {
    const int before = emulated_memory.waits;
    layer.forward(context, {there.data(), DType::float32, m, inputs.size(), inputs.size()},
                  {result.data(), DType::float32, m, n, n});
    CHECK(emulated_memory.waits - before <= waits);
    CHECK(std::memcmp(result.data(), wanted.data(), wanted.size() * sizeof(float)) == 0);
    std::memset(result.data(), 0xEE, wanted.size() * sizeof(float));
  }
}

}  // namespace

TEST_CASE("layers on devices over MPI: the bits of one process, by the hosts and by NCCL") {
  (void)world();  // starts MPI
  mpi::Communicator ranks(MPI_COMM_WORLD);
  CHECK_FALSE(ranks.devices_connected());
  CHECK(ranks.nccl_version().empty());
  for (const std::int64_t m : {1, 6}) check_layer(ranks, m, 200, 320, 4);

  for (const char* file : {"/no/such/library.so", "libm.so.6"}) {
    const std::string message = message_of(
        [&] { ranks.connect_devices(*emulated_cuda_device.memory, file); }, ErrorCode::unavailable);
    CHECK_THAT(message, Catch::Matchers::Contains(file));
  }
  // On one rank alone.
  const bool lacks = ranks.rank() == ranks.size() - 1;
  CHECK_THAT(message_of(
                 [&] {
                   ranks.connect_devices(*emulated_cuda_device.memory,
                                         lacks ? "/no/such/library.so" : kLibrary);
                 },
                 ErrorCode::unavailable),
             Catch::Matchers::Contains("/no/such/library.so"));
  if (ranks.size() > 1) {
    if (lacks) ::setenv("NCCL_STAND_IN_VERSION", "2804", 1);
    CHECK_THAT(
        message_of([&] { ranks.connect_devices(*emulated_cuda_device.memory, kLibrary); },
                   ErrorCode::unavailable),
        Catch::Matchers::Contains("rank 0 has 2.29.3") && Catch::Matchers::Contains("has 2.8.4"));
    ::unsetenv("NCCL_STAND_IN_VERSION");
  }
  CHECK_FALSE(ranks.devices_connected());

  ranks.connect_devices(*emulated_cuda_device.memory, kLibrary);
  CHECK(ranks.devices_connected());
  CHECK(ranks.nccl_version() == "2.29.3");
  const int before = calls();
  const std::int64_t sent = ranks.traffic().bytes_sent;
  for (const std::int64_t m : {1, 6}) {
    check_layer(ranks, m, 64 * 12, 64 * 12, 0);  // even
    check_layer(ranks, m, 201, 320, 0);
  }
  CHECK((calls() > before) == (ranks.size() > 1));
  CHECK((ranks.traffic().bytes_sent > sent) == (ranks.size() > 1));
}

TEST_CASE("a rank leaves the others: it fails while they wait for devices") {
  std::signal(SIGTERM, SIG_IGN);  // the launcher's, once the first rank is gone
  mpi::Communicator& ranks = world();
  ranks.connect_devices(*emulated_cuda_device.memory, kLibrary);
  const int last = ranks.size() - 1;
  if (ranks.rank() == last) {
    ranks.fail("the reason");
    return;
  }
  Memory busy = *emulated_cuda_device.memory;
  busy.done = [](void*) noexcept { return false; };  // it waits for the rank that has gone
  const std::string message = message_of([&] { ranks.wait(busy, nullptr); }, ErrorCode::cancelled);
  CHECK(message == "rank " + std::to_string(last) + ": the reason");
  CHECK(ranks.failed());
  ranks.fail(message);
}

}  // namespace kvant::test
