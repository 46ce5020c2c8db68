#pragma once

/// @file
/// Context: which kernels, which threads, and the workspace. One Context belongs to one thread at a
/// time; weights are immutable and shared freely between contexts.

#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/executor.hpp"
#include "kvant/workspace.hpp"

namespace kvant {

struct KernelTable;

/// How a Context is made; every choice has a default.
struct ContextOptions {
  /// Kernel set by name ("scalar", "avx2", ...). Empty: the environment variable KVANT_ISA (read
  /// once per process), else the best that this machine runs.
  std::string_view isa = {};
  /// Threads; null: openmp_executor(threads).
  std::shared_ptr<Executor> executor = nullptr;
  /// For the default executor: 0 = all.
  int threads = 0;
  /// Kernel set "cuda": the stream (a cudaStream_t) that all work of this context is put on, in
  /// order; null is the default stream.
  void* cuda_stream = nullptr;
  /// A table of the caller's own instead of one by name, which must outlive the context. (The tests
  /// run emulated sets in this way.)
  const KernelTable* kernels = nullptr;
};

namespace detail {
class ContextUse;

/// The thread that is in a call with a context, and how deep; watched in debug builds only.
struct ContextUser {
  std::atomic<const void*> thread = nullptr;
  int depth = 0;

  ContextUser() = default;
  ContextUser(ContextUser&&) noexcept {}
  ContextUser& operator=(ContextUser&&) noexcept { return *this; }
};
}  // namespace detail

/// Which kernels, which threads, and scratch memory. Belongs to one thread at a time: a debug build
/// of the library (CMAKE_BUILD_TYPE Debug) refuses a call with a context that another thread is
/// using, with Error invalid_argument; in other builds results are undefined then.
class KVANT_API Context {
 public:
  Context() : Context(ContextOptions{}) {}
  /// @throws Error unavailable when the named kernel set is unknown, not built, or not runnable on
  ///         this machine; the message lists those that are.
  explicit Context(const ContextOptions& options);

  [[nodiscard]] const KernelTable& kernels() const noexcept { return *kernels_; }
  /// Name of the kernel set that runs, e.g. "avx512vnni".
  [[nodiscard]] std::string_view isa() const noexcept;
  /// (Of a moved-from context: the inline one.)
  [[nodiscard]] Executor& executor() const noexcept;
  /// Where x, y and the layers' data must be; null: on the host.
  [[nodiscard]] const Memory* memory() const noexcept { return workspace_.memory(); }
  /// The device's queue; null on the host, and for the default stream.
  [[nodiscard]] void* queue() const noexcept { return queue_; }
  /// Waits until all work given to this context's queue is done; on the host it always is. Calls on
  /// a device return before their work is done.
  /// @throws Error device_failed: what the device says of the first failure since the last wait
  void wait();

  /// Scratch of the calls that run on this context.
  [[nodiscard]] Workspace& workspace() noexcept { return workspace_; }
  /// workspace().block(bytes, block). @throws Error out_of_memory, invalid_argument
  [[nodiscard]] std::byte* workspace(std::size_t bytes, int block = 0) {
    return workspace_.block(bytes, block);
  }
  /// Bytes held by the workspace.
  [[nodiscard]] std::size_t workspace_size() const noexcept { return workspace_.size(); }

 private:
  friend class detail::ContextUse;
  const KernelTable* kernels_;
  std::shared_ptr<Executor> executor_;
  void* queue_;
  Workspace workspace_;
  detail::ContextUser user_;
};

/// The calling thread's own default Context, made on first use; what calls without a Context use.
[[nodiscard]] KVANT_API Context& default_context();

}  // namespace kvant
