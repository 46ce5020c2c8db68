#pragma once

/// @file
/// Where a kernel set's data lives. A table without a Memory works on the host's; a device's table
/// has one, and then only kernels and these functions touch its data. Work on a queue (a CUDA
/// stream) is done in order, behind the caller's back; nothing here waits but `wait` and copies to
/// the host.

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"

namespace kvant {

/// The direction of a copy, and whether it waits.
enum class CopyKind : std::uint8_t {
  to_device,  ///< from the host; the source may be reused when copy returns
  to_host,    ///< waits for the queue
};

/// A device's memory as functions; queue is the device's own handle (a CUDA stream).
struct Memory {
  const char* space;  ///< "cuda"
  /// Aligned to 256 bytes; null: none left.
  void* (*allocate)(std::size_t bytes) noexcept;
  void (*release)(void* data, std::size_t bytes) noexcept;
  /// False: the device refused; wait says why.
  bool (*copy)(void* to, const void* from, std::size_t bytes, CopyKind kind, void* queue) noexcept;
  /// Within the device: `rows` rows of `bytes` bytes, whose beginnings are to_step and from_step
  /// bytes apart. Does not wait. False: as copy.
  bool (*copy_rows)(void* to, std::size_t to_step, const void* from, std::size_t from_step,
                    std::size_t bytes, std::size_t rows, void* queue) noexcept;
  void (*fill)(void* to, int byte, std::size_t bytes, void* queue) noexcept;
  /// Waits for all work on the queue. Null: all went well; else the device's own words, which
  /// describe the first failure since the last wait.
  const char* (*wait)(void* queue) noexcept;
  /// Whether wait would return at once; it says too what failed.
  bool (*done)(void* queue) noexcept;
  /// Kernels can read and write what this points to.
  bool (*reaches)(const void* data) noexcept;
  /// Bytes that are free now, as the device says: what allocate may give in all, less what its own
  /// units of memory waste. Others may take of it at any time.
  std::size_t (*available)() noexcept;
  /// How many such devices this machine has.
  int (*devices)() noexcept;
  /// From here on the calling thread means this one, from 0 on. False: the device refused.
  bool (*choose)(int device) noexcept;
  /// Writes what tells this thread's device from all others of the machine, as a C string
  /// ("0000:3b:00.0").
  /// @return false: it does not fit, or the device refused
  bool (*identify)(char* text, int size) noexcept;
};

}  // namespace kvant
