// What CUDA leaves undefined ends a launch of the emulated device with a message.

#include <stdexcept>
#include <string>

#include "cuda/device.hpp"
#include "support/catch.hpp"

namespace kvant::test {
namespace {

using device::emulated::Order;
using device::emulated::settings;

std::string message_of(int threads, const std::function<void()>& kernel, int cluster = 1) {
  try {
    device::emulated::launch({{cluster, 1, 1}, threads, 4096, cluster}, kernel);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no message";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the emulated device tells of what CUDA leaves undefined") {
  std::uint32_t r[4];
  const auto lane = [] { return static_cast<int>(threadIdx.x); };
  CHECK(contains(message_of(32,
                            [&] {
                              if (lane() != 7) static_cast<void>(device::shuffle_xor(1, 1));
                            }),
                 "deadlock"));
  CHECK(contains(message_of(32,
                            [&] {
                              if (lane() < 16) {
                                static_cast<void>(device::shuffle_xor(1, 1));
                              } else {
                                device::load_matrix_x4(r, 0);
                              }
                            }),
                 "lanes of a warp at different operations"));
  CHECK(contains(message_of(64,
                            [&] {
                              if (lane() < 32) device::block_barrier();
                            }),
                 "not all threads reach"));
  CHECK(contains(message_of(32, [&] { device::load_matrix_x4(r, 8); }), "not aligned"));
  CHECK(contains(message_of(32,
                            [&] {
                              alignas(16) static char source[16];
                              device::copy_async_16(4096, source, 16);
                            }),
                 "beyond the shared memory"));
  CHECK(contains(message_of(32,
                            [&] {
                              alignas(16) static char source[32];
                              device::copy_async_16(0, source + 8, 16);
                            }),
                 "source is not aligned"));
  CHECK(contains(message_of(32,
                            [&] {
                              if (lane() == 0) device::barrier_init(0, 1);
                              device::block_barrier();
                              device::barrier_wait(0, 0);
                            }),
                 "deadlock"));
  CHECK(contains(message_of(32, [&] { device::barrier_arrive(64); }), "not initialised"));
  CHECK(contains(message_of(32,
                            [&] {
                              if (lane() == 0) device::barrier_init(0, 1);
                              device::block_barrier();
                              device::barrier_arrive_expect(0, 16);
                            }),
                 "more arrivals"));
  CHECK(contains(message_of(128,
                            [&] {
                              std::int32_t d[4] = {};
                              device::wgmma_s8(d,
                                               device::wgmma_operand(0) & ~(std::uint64_t{3} << 62),
                                               device::wgmma_operand(0), 1);
                              device::wgmma_commit();
                              device::wgmma_wait<0>();
                            }),
                 "128-byte swizzle"));
  CHECK(contains(message_of(
                     32,
                     [&] {
                       if (device::cluster_rank() == 0) device::cluster_barrier();
                     },
                     2),
                 "deadlock"));
}

TEST_CASE("a missing wait shows where copies are late, and only there") {
  const auto before = settings;
  for (const Order order : {Order::early, Order::late}) {
    alignas(16) static const unsigned char source[16] = {42};
    settings.order = order;
    int got = 0;
    device::emulated::launch({{1, 1, 1}, 32, 64, 1}, [&] {
      if (threadIdx.x != 0) return;
      device::copy_async_16(0, source, 16);
      device::copy_async_commit();
      got = device::shared_memory()[0];
    });
    CHECK((got == 42) == (order == Order::early));
  }
  settings = before;
}

}  // namespace kvant::test
