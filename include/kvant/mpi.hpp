#pragma once

/// @file
/// Ranks over MPI (target kvant::mpi, -DKVANT_MPI=ON): one layer, or one model, on several
/// processes or machines.
///
///     kvant::mpi::Communicator ranks;              // MPI_Init, if nobody has called it
///     const auto up = kvant::ColumnParallelLinear::quantize(ranks, context, w1, format);
///     const auto down = kvant::RowParallelLinear::quantize(ranks, context, w2, format);
///     up.forward(context, x, inner);               // this rank's columns
///     down.forward(context, inner, y);             // whole, on every rank the same
///
///     const auto model = kvant::models::load_model(context, folder, config, {.ranks = &ranks});

/// @cond
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
/// @endcond
#include <mpi.h>

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/parallel_linear.hpp"
#include "kvant/ranks.hpp"

namespace kvant::mpi {

/// What a rank says that is signalled: a launcher signals all when it ends one.
inline constexpr const char* kInterrupted = "interrupted, or another rank was ended";

/// How a Communicator waits for others.
struct Options {
  /// Set from anywhere (a signal handler): calls that wait throw Error cancelled.
  const std::atomic<bool>* cancel = nullptr;
};

/// A rank among those of its machine.
struct Neighbours {
  int first = 0;  ///< of them, as a rank of the job: names the machine
  int count = 1;
  int own = 0;  ///< this rank's number among them
};

/// The processes that mpirun started. Calls come from one thread. Where a rank fails, fail() takes
/// its message to the others, whose calls throw it: nobody waits for a rank that has gone. (A
/// process that is killed tells nobody; the launcher ends the job then.)
class KVANT_API Communicator final : public Ranks {
 public:
  /// All processes of the job. Calls MPI_Init, and at the end MPI_Finalize, if nobody has.
  /// @throws Error unavailable: MPI cannot be started, or has been finalized
  explicit Communicator(const Options& options = {});
  /// The processes of a communicator, of which a duplicate is used; MPI is the caller's.
  explicit Communicator(MPI_Comm processes, const Options& options = {});
  ~Communicator() override;

  [[nodiscard]] int rank() const noexcept override;
  [[nodiscard]] int size() const noexcept override;

  /// The ranks on this rank's machine.
  [[nodiscard]] const Neighbours& neighbours() const noexcept;

  /// From here on what ranks' devices hold goes from one to the other by NCCL, on the queue that
  /// made it: no host waits, and none has a copy. All ranks call it, each with a device of its own
  /// that its thread has chosen (cudaSetDevice, Memory::choose): two ranks on one are refused.
  /// Takes the memory that NCCL needs there. A rank that fails while others are within NCCL's own
  /// start is noticed by them only if NCCL does; later wait() notices.
  /// @param memory of the device
  /// @param library file of NCCL's release 2 (2.4 or newer), opened at run time; by its name alone
  ///        it is looked for where the system looks for libraries
  /// @throws Error on every rank, and devices are connected on none then. unavailable: no such
  ///         library on some rank, or others than elsewhere; device_failed: what NCCL says
  void connect_devices(const Memory& memory, const std::string& library = "libnccl.so.2");
  [[nodiscard]] bool devices_connected() const noexcept override;
  void wait(const Memory& memory, void* queue) override;
  /// NCCL's version, "2.29.3"; empty: devices are not connected.
  [[nodiscard]] std::string nccl_version() const;

  /// Tells all others why this rank cannot go on, unless they know: their calls throw Error
  /// cancelled with "rank N: MESSAGE". Returns on rank 0 at once, on others when rank 0 has called
  /// it too, or after 20 seconds: a launcher ends the job when the first process ends, and rank 0
  /// should have said why by then. No call may follow.
  void fail(std::string_view message) noexcept;
  /// A rank has failed, this or another: there is nothing to be finalized in order.
  [[nodiscard]] bool failed() const noexcept;

 protected:
  void do_all_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                     std::byte* all) override;
  std::unique_ptr<Exchange> do_start_all_gather(std::span<const std::byte> mine,
                                                std::span<const std::int64_t> sizes,
                                                std::byte* all) override;
  void do_device_all_gather(const Memory& memory, void* queue, std::span<const std::byte> mine,
                            std::span<const std::int64_t> sizes, std::byte* all) override;
  void do_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                 std::byte* all) override;
  void do_all_max(std::span<std::int32_t> values) override;
  void do_all_or(std::span<std::uint32_t> values) override;
  void do_broadcast(std::span<std::byte> bytes) override;

 private:
  struct State;
  class Gathering;
  std::string first_failure(const std::string& mine);
  std::string try_exchange(const Memory& memory);
  std::unique_ptr<State> state_;
};

/// How many processes the launcher (mpirun, srun) says it has started this one with, from its
/// environment, before MPI is initialized; 1: there was none.
[[nodiscard]] KVANT_API int launched_processes() noexcept;

}  // namespace kvant::mpi
