// A library with NCCL's interface whose devices are the emulated one, in the memory of hosts: what
// it moves goes by MPI. Checks that ranks call it in the same way, and counts.

#include <mpi.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {

struct UniqueId {
  std::array<char, 128> bytes;
};
struct Job {
  MPI_Comm ranks = MPI_COMM_NULL;
};
enum Status { kDone = 0, kInvalidArgument = 4, kInvalidUsage = 5 };
constexpr int kBytes = 1;

int depth = 0;  ///< of groups
int calls = 0;

/// The same on all ranks.
bool agreed(const Job& job, std::array<long, 3> said) {
  std::array<long, 6> both{};
  for (std::size_t i = 0; i < said.size(); ++i) {
    both[i] = said[i];
    both[i + 3] = -said[i];
  }
  std::array<long, 6> most{};
  MPI_Allreduce(both.data(), most.data(), 6, MPI_LONG, MPI_MAX, job.ranks);
  return most[0] == -most[3] && most[1] == -most[4] && most[2] == -most[5];
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  const char* const other = std::getenv("NCCL_STAND_IN_VERSION");
  *version = other != nullptr ? std::atoi(other) : 22903;
  return kDone;
}

int ncclGetUniqueId(UniqueId* id) {
  for (std::size_t i = 0; i < id->bytes.size(); ++i) id->bytes[i] = static_cast<char>(i * 7 + 1);
  return kDone;
}

const char* ncclGetErrorString(int status) {
  return status == kInvalidUsage ? "invalid usage" : "invalid argument";
}

int ncclCommInitRank(void** communicator, int ranks, UniqueId id, int rank) {
  UniqueId wanted;
  ncclGetUniqueId(&wanted);
  int size = 0;
  int own = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &own);
  if (ranks != size || rank != own || id.bytes != wanted.bytes) return kInvalidArgument;
  if (std::getenv("NCCL_STAND_IN_REFUSES") != nullptr) return kInvalidUsage;
  auto* job = new Job;
  MPI_Comm_dup(MPI_COMM_WORLD, &job->ranks);
  *communicator = job;
  return kDone;
}

int ncclCommDestroy(void* communicator) {
  auto* job = static_cast<Job*>(communicator);
  MPI_Comm_free(&job->ranks);
  delete job;
  return kDone;
}

int ncclCommAbort(void* communicator) {
  delete static_cast<Job*>(communicator);
  return kDone;
}

int ncclGroupStart() {
  ++depth;
  return kDone;
}

int ncclGroupEnd() {
  return --depth < 0 ? kInvalidUsage : kDone;
}

int ncclAllGather(const void* from, void* to, std::size_t count, int type, void* communicator,
                  void*) {
  const Job& job = *static_cast<Job*>(communicator);
  if (type != kBytes || !agreed(job, {1, static_cast<long>(count), -1})) return kInvalidArgument;
  const int bytes = static_cast<int>(count);
  MPI_Allgather(from, bytes, MPI_BYTE, to, bytes, MPI_BYTE, job.ranks);
  ++calls;
  return kDone;
}

int ncclBroadcast(const void* from, void* to, std::size_t count, int type, int root,
                  void* communicator, void*) {
  const Job& job = *static_cast<Job*>(communicator);
  // Alone each would wait for the others in turn.
  if (depth != 1) return kInvalidUsage;
  if (type != kBytes || !agreed(job, {2, static_cast<long>(count), root})) return kInvalidArgument;
  int own = 0;
  MPI_Comm_rank(job.ranks, &own);
  if (own == root) std::memcpy(to, from, count);
  MPI_Bcast(to, static_cast<int>(count), MPI_BYTE, root, job.ranks);
  ++calls;
  return kDone;
}

/// Of this rank.
int nccl_stand_in_calls() {
  return calls;
}

}  // extern "C"
