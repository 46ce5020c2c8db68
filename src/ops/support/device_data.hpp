#pragma once

// Data that was made on the host and is used where the kernels are.

#include <algorithm>
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

/// What the device says of a copy that it did not do. @throws Error device_failed
[[noreturn]] inline void fail_to_copy(const Memory& memory, std::size_t bytes, void* queue) {
  const char* failure = memory.wait(queue);
  fail(ErrorCode::device_failed, std::string(memory.space) + ": copying " + std::to_string(bytes) +
                                     " bytes: " + (failure != nullptr ? failure : "refused"));
}

/// Copies between host and device. @throws Error device_failed
inline void copy_or_fail(const Memory& memory, void* to, const void* from, std::size_t bytes,
                         CopyKind kind, void* queue) {
  if (bytes == 0 || memory.copy(to, from, bytes, kind, queue)) return;
  fail_to_copy(memory, bytes, queue);
}

/// Copies within the device. @throws Error device_failed
inline void copy_within_or_fail(const Memory& memory, void* to, const void* from, std::size_t bytes,
                                void* queue) {
  constexpr std::size_t kMost = std::size_t{1} << 30;  // what CUDA takes for a row
  for (std::size_t done = 0; done < bytes; done += kMost) {
    const std::size_t piece = std::min(kMost, bytes - done);
    if (memory.copy_rows(static_cast<std::byte*>(to) + done, piece,
                         static_cast<const std::byte*>(from) + done, piece, piece, 1, queue)) {
      continue;
    }
    fail_to_copy(memory, bytes, queue);
  }
}

/// @throws Error device_failed with what the device says of the queue's work
inline void wait_or_fail(const Memory& memory, void* queue) {
  const char* failure = memory.wait(queue);
  if (failure == nullptr) return;
  fail(ErrorCode::device_failed, std::string(memory.space) + ": " + failure);
}

/// Copies rows within the device. @throws Error device_failed
inline void copy_rows_or_fail(const Memory& memory, void* to, std::size_t to_step, const void* from,
                              std::size_t from_step, std::size_t bytes, std::size_t rows,
                              void* queue) {
  if (bytes == 0 || rows == 0) return;
  if (memory.copy_rows(to, to_step, from, from_step, bytes, rows, queue)) return;
  fail_to_copy(memory, bytes * rows, queue);
}

}  // namespace kvant::detail
