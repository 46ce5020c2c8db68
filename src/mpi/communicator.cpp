#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "kvant/error.hpp"
#include "kvant/mpi.hpp"
#include "mpi/nccl.hpp"

namespace kvant::mpi {
namespace {

using Clock = std::chrono::steady_clock;

/// Of messages on the channel of failures.
constexpr int kFailureTag = 1;
constexpr int kReleaseTag = 2;  ///< from rank 0: it knows, and others may end
/// How long others wait for that.
constexpr std::chrono::seconds kPatience{20};
constexpr std::size_t kLongestMessage = 2000;
/// Polls between two looks at what else may have happened; they take a few microseconds.
constexpr int kPollsBetweenLooks = 64;

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  throw Error(
      ErrorCode::device_failed,
      std::string(what) + ": " + std::string(text.data(), static_cast<std::size_t>(length)));
}

int as_count(std::int64_t bytes) {
  if (bytes > INT_MAX) {
    throw Error(ErrorCode::out_of_range, std::to_string(bytes) +
                                             " bytes at once between ranks; at most 2 GiB are, so "
                                             "run shorter pieces of text");
  }
  return static_cast<int>(bytes);
}

/// Where each rank's part begins, and how long it is, as MPI wants it.
struct Parts {
  explicit Parts(std::span<const std::int64_t> sizes) {
    std::int64_t sum = 0;
    for (const std::int64_t size : sizes) {
      places.push_back(as_count(sum));
      counts.push_back(as_count(size));
      sum += size;
    }
    as_count(sum);
  }
  std::vector<int> counts;
  std::vector<int> places;
};

}  // namespace

struct Communicator::State {
  MPI_Comm data = MPI_COMM_NULL;
  MPI_Comm failures = MPI_COMM_NULL;  ///< beside the data, so that a message never meets another
  int rank = 0;
  int size = 1;
  Neighbours neighbours;
  bool owns_mpi = false;
  bool failed = false;
  bool told = false;
  std::vector<Parts> abandoned;
  std::unique_ptr<NcclConnection> devices;
  std::string nccl_version;
  const std::atomic<bool>* cancel = nullptr;

  void start(MPI_Comm processes) {
    for (MPI_Comm* each : {&data, &failures}) {
      check(MPI_Comm_dup(processes, each), "MPI_Comm_dup");
      MPI_Comm_set_errhandler(*each, MPI_ERRORS_RETURN);
    }
    MPI_Comm_rank(data, &rank);
    MPI_Comm_size(data, &size);
    MPI_Comm machine = MPI_COMM_NULL;
    check(MPI_Comm_split_type(data, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine),
          "MPI_Comm_split_type");
    MPI_Comm_rank(machine, &neighbours.own);
    MPI_Comm_size(machine, &neighbours.count);
    neighbours.first = rank;
    check(MPI_Bcast(&neighbours.first, 1, MPI_INT, 0, machine), "MPI_Bcast");
    MPI_Comm_free(&machine);
  }

  void give_up_devices() noexcept {
    if (devices != nullptr) devices->abandon();
    devices.reset();
  }

  static bool is_done(MPI_Request& request, const char* what) {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
    return done != 0;
  }

  /// Waits until an operation is done, another rank fails, or the caller's flag is set.
  void finish(MPI_Request& request, const char* what) {
    for (int polls = 1;; ++polls) {
      if (is_done(request, what)) return;
      pause(polls);
    }
  }

  /// Between two polls. @throws Error as finish()
  void pause(int polls) {
    if (polls % kPollsBetweenLooks == 0) {
      look_for_failure();
      if (cancel != nullptr && cancel->load()) {
        failed = true;
        throw Error(ErrorCode::cancelled, kInterrupted);
      }
    }
    std::this_thread::yield();  // more ranks than cores: let the one work that is waited for
  }

  void look_for_failure() {
    int there = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, kFailureTag, failures, &there, &status), "MPI_Iprobe");
    if (there == 0) return;
    std::array<char, kLongestMessage> text{};
    int length = 0;
    MPI_Get_count(&status, MPI_CHAR, &length);
    check(MPI_Recv(text.data(), static_cast<int>(text.size()), MPI_CHAR, status.MPI_SOURCE,
                   kFailureTag, failures, MPI_STATUS_IGNORE),
          "MPI_Recv");
    failed = true;
    told = true;
    throw Error(ErrorCode::cancelled,
                "rank " + std::to_string(status.MPI_SOURCE) + ": " +
                    std::string(text.data(), static_cast<std::size_t>(length)));
  }
};

Communicator::Communicator(const Options& options) : state_(std::make_unique<State>()) {
  state_->cancel = options.cancel;
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (finalized != 0) {
    throw Error(ErrorCode::unavailable, "MPI was finalized; it cannot be started again");
  }
  if (initialized == 0) {
    int provided = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
      throw Error(ErrorCode::unavailable, "MPI cannot be started");
    }
    state_->owns_mpi = true;
  }
  state_->start(MPI_COMM_WORLD);
}

Communicator::Communicator(MPI_Comm processes, const Options& options)
    : state_(std::make_unique<State>()) {
  state_->cancel = options.cancel;
  state_->start(processes);
}

Communicator::~Communicator() {
  // Behind a failure others may never come to what finalizing waits for.
  if (state_->failed) {
    state_->give_up_devices();  // (who threw, and told nobody)
    return;
  }
  state_->devices.reset();
  MPI_Comm_free(&state_->data);
  MPI_Comm_free(&state_->failures);
  if (state_->owns_mpi) MPI_Finalize();
}

int Communicator::rank() const noexcept {
  return state_->rank;
}
int Communicator::size() const noexcept {
  return state_->size;
}
bool Communicator::failed() const noexcept {
  return state_->failed;
}

void Communicator::fail(std::string_view message) noexcept {
  State& state = *state_;
  state.failed = true;
  std::vector<MPI_Request> requests;
  const auto tell = [&](int tag, std::string_view text) {
    for (int r = 0; r < state.size; ++r) {
      if (r == state.rank) continue;
      MPI_Request request = MPI_REQUEST_NULL;
      if (MPI_Isend(text.data(), static_cast<int>(text.size()), MPI_CHAR, r, tag, state.failures,
                    &request) == MPI_SUCCESS) {
        requests.push_back(request);
      }
    }
  };
  // Who was told need not tell: all know it from who failed.
  if (!state.told) tell(kFailureTag, message.substr(0, kLongestMessage));
  state.told = true;
  if (state.rank == 0) tell(kReleaseTag, {});
  state.give_up_devices();
  const Clock::time_point end = Clock::now() + std::chrono::seconds(1);
  for (int sent = 0; sent == 0 && Clock::now() < end; std::this_thread::yield()) {
    if (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &sent,
                    MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
      return;
    }
  }
  // A launcher ends all processes as soon as one ends with an error: rank 0, which may be computing
  // and has not looked yet, is to say why first.
  const Clock::time_point patience = Clock::now() + kPatience;
  for (int there = 0; state.rank != 0 && there == 0 && Clock::now() < patience;) {
    if (MPI_Iprobe(0, kReleaseTag, state.failures, &there, MPI_STATUS_IGNORE) != MPI_SUCCESS)
      return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

class Communicator::Gathering final : public Exchange {
 public:
  /// Where another rank failed MPI may still look at a gathering that nobody waits for.
  ~Gathering() override {
    if (request_ != MPI_REQUEST_NULL) state_.abandoned.push_back(std::move(parts_));
  }
  Gathering(State& state, std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
            std::byte* all)
      : state_(state), parts_(sizes) {
    check(MPI_Iallgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all,
                          parts_.counts.data(), parts_.places.data(), MPI_BYTE, state.data,
                          &request_),
          kWhat);
  }
  void advance() override { State::is_done(request_, kWhat); }
  void finish() override { state_.finish(request_, kWhat); }

 private:
  static constexpr const char* kWhat = "MPI_Iallgatherv";
  State& state_;
  Parts parts_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

void Communicator::do_all_gather(std::span<const std::byte> mine,
                                 std::span<const std::int64_t> sizes, std::byte* all) {
  Gathering(*state_, mine, sizes, all).finish();
}

std::unique_ptr<Exchange> Communicator::do_start_all_gather(std::span<const std::byte> mine,
                                                            std::span<const std::int64_t> sizes,
                                                            std::byte* all) {
  return std::make_unique<Gathering>(*state_, mine, sizes, all);
}

/// The message of the first rank that has one, "rank N: MESSAGE"; empty: none has.
std::string Communicator::first_failure(const std::string& mine) {
  constexpr std::size_t kShown = 400;
  const auto count = static_cast<std::size_t>(size());
  std::string text = mine.substr(0, kShown);
  text.resize(kShown);
  std::string all(count * kShown, '\0');
  all_gather(std::as_bytes(std::span(text)), std::vector<std::int64_t>(count, kShown),
             reinterpret_cast<std::byte*>(all.data()));
  for (std::size_t r = 0; r < count; ++r) {
    const std::string said(all.c_str() + r * kShown, ::strnlen(all.c_str() + r * kShown, kShown));
    if (said.empty()) continue;
    return r == static_cast<std::size_t>(rank()) ? said : "rank " + std::to_string(r) + ": " + said;
  }
  return {};
}

void Communicator::connect_devices(const Memory& memory, const std::string& library) {
  std::string failure;
  auto opened = open_nccl(library, failure);
  failure = first_failure(failure);
  if (!failure.empty()) throw Error(ErrorCode::unavailable, "NCCL: " + failure);
  const std::string version = version_of(*opened);
  try {
    agree("releases of NCCL", version);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_file) throw;
    throw Error(ErrorCode::unavailable, error.what());
  }
  try {
    state_->devices = std::make_unique<NcclConnection>(std::move(opened), *this);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device_failed) throw;
    failure = error.what();
  }
  failure = first_failure(failure);
  if (failure.empty()) failure = first_failure(try_exchange(memory));
  if (failure.empty()) {
    state_->nccl_version = version;
    return;
  }
  state_->give_up_devices();
  throw Error(ErrorCode::device_failed, "NCCL: " + failure);
}

/// NCCL makes its connections with the first exchange. @return what the device or NCCL says
std::string Communicator::try_exchange(const Memory& memory) {
  constexpr std::size_t kPart = 256;
  const auto count = static_cast<std::size_t>(size());
  const std::vector<std::int64_t> sizes(count, kPart);
  const std::size_t bytes = (count + 1) * kPart;
  std::byte* const data = static_cast<std::byte*>(memory.allocate(bytes));
  std::string failure;
  if (data == nullptr) failure = "no memory of the device for " + std::to_string(bytes) + " bytes";
  failure = first_failure(failure);  // all, or none
  try {
    if (failure.empty()) {
      Ranks::all_gather(memory, nullptr, {data, kPart}, sizes, data + kPart);
      wait(memory, nullptr);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device_failed) throw;
    failure = error.what();
  }
  if (data != nullptr) memory.release(data, bytes);
  return failure;
}

void Communicator::wait(const Memory& memory, void* queue) {
  try {
    for (int polls = 1; devices_connected() && !memory.done(queue); ++polls) {
      state_->pause(polls);
      if (polls % kPollsBetweenLooks == 0) state_->devices->check_exchanges();
    }
  } catch (...) {
    state_->give_up_devices();
    throw;
  }
  Ranks::wait(memory, queue);
}

const Neighbours& Communicator::neighbours() const noexcept {
  return state_->neighbours;
}

bool Communicator::devices_connected() const noexcept {
  return state_->devices != nullptr;
}

std::string Communicator::nccl_version() const {
  return devices_connected() ? state_->nccl_version : std::string();
}

void Communicator::do_device_all_gather(const Memory& memory, void* queue,
                                        std::span<const std::byte> mine,
                                        std::span<const std::int64_t> sizes, std::byte* all) {
  if (state_->devices == nullptr) {
    Ranks::do_device_all_gather(memory, queue, mine, sizes, all);
    return;
  }
  state_->devices->all_gather(queue, mine, sizes, all);
}

void Communicator::do_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                             std::byte* all) {
  const Parts parts(sizes);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Igatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all, parts.counts.data(),
                     parts.places.data(), MPI_BYTE, 0, state_->data, &request),
        "MPI_Igatherv");
  state_->finish(request, "MPI_Igatherv");
}

void Communicator::do_all_max(std::span<std::int32_t> values) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, values.data(), as_count(std::ssize(values)), MPI_INT32_T,
                       MPI_MAX, state_->data, &request),
        "MPI_Iallreduce");
  state_->finish(request, "MPI_Iallreduce");
}

void Communicator::do_all_or(std::span<std::uint32_t> values) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, values.data(), as_count(std::ssize(values)), MPI_UINT32_T,
                       MPI_BOR, state_->data, &request),
        "MPI_Iallreduce");
  state_->finish(request, "MPI_Iallreduce");
}

void Communicator::do_broadcast(std::span<std::byte> bytes) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibcast(bytes.data(), as_count(std::ssize(bytes)), MPI_BYTE, 0, state_->data, &request),
        "MPI_Ibcast");
  state_->finish(request, "MPI_Ibcast");
}

int launched_processes() noexcept {
  // Open MPI, MPICH and its relatives, Slurm's srun.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* const text = std::getenv(name);
    if (text == nullptr) continue;
    const int count = std::atoi(text);
    if (count > 0) return count;
  }
  return 1;
}

}  // namespace kvant::mpi
