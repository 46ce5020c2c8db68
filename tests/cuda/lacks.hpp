#pragma once

// Kernels without something they rely on: a barrier, a wait. Each lack must show.

#include <stdexcept>
#include <string>

#include "cuda/gemm_problem.hpp"

namespace kvant::test {
namespace {  // as the kernels are

using device::emulated::Fault;
using device::emulated::Order;
using device::emulated::settings;

constexpr Order kOrders[] = {Order::late, Order::early, Order::random};

/// Sets them for a test and leaves them as they were.
struct ScopedSettings {
  device::emulated::Settings before = settings;
  ScopedSettings() = default;
  ScopedSettings(const ScopedSettings&) = delete;
  ScopedSettings& operator=(const ScopedSettings&) = delete;
  ~ScopedSettings() { settings = before; }
};

/// Whether the lack shows: another y, or a launch that ends with a message.
inline bool shows(const GemmKernelCase& kernel, GemmProblem& problem, const std::string& want) {
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    for (const Order order : kOrders) {
      settings.order = order;
      settings.seed = seed;
      try {
        kernel.launch(problem.launch());
      } catch (const std::runtime_error&) {
        return true;
      }
      if (problem.y() != want) return true;
    }
  }
  return false;
}

struct Lack {
  Fault fault;
  int index;
  const char* kernels;  ///< the beginning of the names of those that rely on it
};

}  // namespace
}  // namespace kvant::test
