#pragma once

// NCCL between the ranks' devices. Its library is opened at run time by those who want it, so that
// kvant is built without it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kvant/ranks.hpp"

namespace kvant::mpi {

/// The functions of one NCCL library.
class NcclLibrary;

/// "2.29.3"
[[nodiscard]] std::string version_of(const NcclLibrary& library);

/// Opens it. @return null: there is no such file, or it lacks a function; `why` says which
[[nodiscard]] std::shared_ptr<const NcclLibrary> open_nccl(const std::string& file,
                                                           std::string& why);

/// The ranks' devices, of which this process has one: the calling thread's.
class NcclConnection {
 public:
  /// All ranks make it. @throws Error device_failed with NCCL's words; as Ranks
  NcclConnection(std::shared_ptr<const NcclLibrary> library, Ranks& ranks);
  /// Behind the last exchange, on all ranks; or abandon() before.
  ~NcclConnection();
  NcclConnection(const NcclConnection&) = delete;
  NcclConnection& operator=(const NcclConnection&) = delete;

  /// Every rank's bytes, one after the other: on the queue, without waiting.
  /// @throws Error device_failed
  void all_gather(void* queue, std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                  std::byte* all);
  /// @throws Error device_failed: what has gone wrong meanwhile, behind the calls
  void check_exchanges() const;
  /// A rank has gone: what waits for it on the device ends.
  void abandon() noexcept;

 private:
  void check(int status, const char* what) const;

  std::shared_ptr<const NcclLibrary> library_;
  void* communicator_ = nullptr;
  int rank_;
  int size_;
};

}  // namespace kvant::mpi
