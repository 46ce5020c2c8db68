#pragma once

// The other processes of an mpirun: one job, of which rank 0 speaks.

#include <cstdint>
#include <filesystem>
#include <string>

#include "kvant/error.hpp"
#include "kvant/kernels/memory.hpp"
#include "kvant/ranks.hpp"

namespace kvant::program {

/// Joins the processes that mpirun has started, if it has; from here on standard output and
/// standard error of all but rank 0 lead nowhere. The same version and the same words on all are
/// agreed on.
/// @param words the whole command line
/// @throws Error unavailable (started by mpirun, built without kvant::mpi), invalid_file (ranks
///         that differ)
void join_ranks(const std::string& words);
/// The ranks of this job; null: this process alone.
[[nodiscard]] Ranks* job_ranks() noexcept;
/// This process writes results: rank 0, or the only one.
[[nodiscard]] bool leads() noexcept;
/// Threads of this process: those asked for, or, for 0 and where several ranks run on a machine,
/// an even part of its cores. @return 0: all
[[nodiscard]] int threads_of_rank(int asked);
/// Which of the ranks on its machine this one is, from 0 on.
[[nodiscard]] int rank_on_machine() noexcept;
/// How the devices of ranks are shared, and what layers there exchange travels.
struct DeviceSharing {
  int ranks = 1;    ///< that have this rank's device
  std::string way;  ///< in words for a report; empty: no rank has a device, or there is one rank
};
inline constexpr int kLongestDeviceName = 39;
/// Where all ranks have a device of their own, what these hold goes from one to the other by NCCL:
/// the library that the environment variable KVANT_NCCL names (empty: none), else the system's.
/// @param memory of this rank's device; null: it has none
/// @param own what tells it from others of the machine; all ranks call it
[[nodiscard]] DeviceSharing connect_devices(const Memory* memory, const std::string& own);
/// All ranks are done: waits for them. Nothing without ranks.
void leave_ranks();
/// What is said of an error. A launcher signals all ranks when it ends one: wherever the signal
/// finds this rank, computing or waiting for others, the same is said.
[[nodiscard]] std::string message_of(const Error& error);
/// This rank has failed: the others are told, and nothing waits any more.
void abandon_ranks(const std::string& message) noexcept;

/// Every rank sees the same file, or folder of files: names, sizes, and some of the bytes.
/// @throws Error invalid_file, io
void agree_on_files(const std::filesystem::path& path);

}  // namespace kvant::program
