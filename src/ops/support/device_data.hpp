#pragma once

// Data that was made on the host and is used where the kernels are.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kvant/kernels/memory.hpp"
#include "ops/support/arena.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {

/// One block of a device's memory, given back with the last owner.
/// @throws Error out_of_memory
inline std::shared_ptr<std::byte> allocate_on(const Memory& memory, std::size_t bytes) {
  void* data = memory.allocate(bytes);
  if (data == nullptr) {
    fail(ErrorCode::out_of_memory,
         std::string(memory.space) + ": no memory for " + std::to_string(bytes) + " bytes");
  }
  return {static_cast<std::byte*>(data),
          [&memory, bytes](std::byte* at) { memory.release(at, bytes); }};
}

/// Copies between host and device. @throws Error device_failed
inline void copy_or_fail(const Memory& memory, void* to, const void* from, std::size_t bytes,
                         CopyKind kind, void* queue) {
  if (bytes == 0 || memory.copy(to, from, bytes, kind, queue)) return;
  const char* failure = memory.wait(queue);
  fail(ErrorCode::device_failed, std::string(memory.space) + ": copying " + std::to_string(bytes) +
                                     " bytes: " + (failure != nullptr ? failure : "refused"));
}

}  // namespace kvant::detail
