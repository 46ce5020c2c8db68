#include "mpi/nccl.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "kvant/error.hpp"

namespace kvant::mpi {
namespace {

// NCCL's interface as nccl.h of its releases 2.4 to 2.32 has it.
struct UniqueId {
  std::array<std::byte, 128> bytes;
};
constexpr int kSuccess = 0;
constexpr int kInProgress = 7;
constexpr int kBytes = 1;  ///< ncclUint8

}  // namespace

class NcclLibrary {
 public:
  explicit NcclLibrary(void* handle) noexcept : handle_(handle) {}
  ~NcclLibrary() { ::dlclose(handle_); }
  NcclLibrary(const NcclLibrary&) = delete;
  NcclLibrary& operator=(const NcclLibrary&) = delete;

  /// @return the name of a function that is not there; null: all are
  [[nodiscard]] const char* find_all() noexcept {
    const char* missing = nullptr;
    const auto find = [&]<class Function>(const char* name, Function& function) {
      function = reinterpret_cast<Function>(::dlsym(handle_, name));
      if (function == nullptr && missing == nullptr) missing = name;
    };
    find("ncclGetVersion", get_version);
    find("ncclGetUniqueId", get_unique_id);
    find("ncclGetErrorString", get_error_string);
    find("ncclCommInitRank", comm_init_rank);
    find("ncclCommDestroy", comm_destroy);
    find("ncclCommAbort", comm_abort);
    find("ncclGroupStart", group_start);
    find("ncclGroupEnd", group_end);
    find("ncclAllGather", all_gather);
    find("ncclBroadcast", broadcast);
    const char* const required = missing;  // the others are asked where they are
    find("ncclCommGetAsyncError", get_async_error);
    find("ncclGetLastError", get_last_error);  // since 2.13
    return required;
  }

  int (*get_version)(int* version) = nullptr;
  int (*get_unique_id)(UniqueId* id) = nullptr;
  const char* (*get_error_string)(int status) = nullptr;
  const char* (*get_last_error)(void* communicator) = nullptr;
  int (*get_async_error)(void* communicator, int* status) = nullptr;
  int (*comm_init_rank)(void** communicator, int ranks, UniqueId id, int rank) = nullptr;
  int (*comm_destroy)(void* communicator) = nullptr;
  int (*comm_abort)(void* communicator) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*all_gather)(const void* from, void* to, std::size_t count, int type, void* communicator,
                    void* stream) = nullptr;
  int (*broadcast)(const void* from, void* to, std::size_t count, int type, int root,
                   void* communicator, void* stream) = nullptr;

 private:
  void* handle_;
};

std::shared_ptr<const NcclLibrary> open_nccl(const std::string& file, std::string& why) {
  // Its threads may outlive the last who uses it: it stays where it is.
  void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* const error = ::dlerror();
    why = error != nullptr ? error : file + ": cannot be opened";
    return nullptr;
  }
  auto library = std::make_shared<NcclLibrary>(handle);
  if (const char* const missing = library->find_all()) {
    why = file + ": has no " + missing;
    return nullptr;
  }
  return library;
}

std::string version_of(const NcclLibrary& library) {
  int version = 0;
  if (library.get_version(&version) != kSuccess) version = 0;
  const int major = version < 10000 ? 1000 : 10000;  // 22903; 2804 for 2.8 and older
  return std::to_string(version / major) + "." + std::to_string(version % major / 100) + "." +
         std::to_string(version % 100);
}

void NcclConnection::check(int status, const char* what) const {
  if (status == kSuccess) return;
  std::string text = std::string(what) + ": " + library_->get_error_string(status);
  const char* const cause =
      library_->get_last_error != nullptr ? library_->get_last_error(communicator_) : nullptr;
  if (cause != nullptr && *cause != 0) text.append(": ").append(cause);
  throw Error(ErrorCode::device_failed, text);
}

NcclConnection::NcclConnection(std::shared_ptr<const NcclLibrary> library, Ranks& ranks)
    : library_(std::move(library)), rank_(ranks.rank()), size_(ranks.size()) {
  UniqueId id{};
  int status = kSuccess;
  if (rank_ == 0) status = library_->get_unique_id(&id);
  ranks.broadcast(id.bytes);
  // (Where rank 0 has no id it says so below, and nobody waits for it.)
  std::uint32_t failed = status != kSuccess ? 1 : 0;
  ranks.all_or({&failed, 1});
  check(status, "ncclGetUniqueId");
  if (failed != 0) {
    throw Error(ErrorCode::device_failed, "rank 0 has no id of NCCL to give");
  }
  check(library_->comm_init_rank(&communicator_, size_, id, rank_), "ncclCommInitRank");
}

NcclConnection::~NcclConnection() {
  if (communicator_ != nullptr) static_cast<void>(library_->comm_destroy(communicator_));
}

void NcclConnection::abandon() noexcept {
  if (void* const gone = std::exchange(communicator_, nullptr)) {
    static_cast<void>(library_->comm_abort(gone));
  }
}

void NcclConnection::check_exchanges() const {
  int status = kSuccess;
  if (library_->get_async_error == nullptr) return;
  check(library_->get_async_error(communicator_, &status), "ncclCommGetAsyncError");
  if (status != kInProgress) check(status, "an exchange by NCCL");
}

void NcclConnection::all_gather(void* queue, std::span<const std::byte> mine,
                                std::span<const std::int64_t> sizes, std::byte* all) {
  const bool even = std::all_of(sizes.begin(), sizes.end(),
                                [&](std::int64_t size) { return size == sizes.front(); });
  if (even) {
    check(library_->all_gather(mine.data(), all, mine.size(), kBytes, communicator_, queue),
          "ncclAllGather");
    return;
  }
  // Uneven parts: everybody's, from everybody, at once.
  check(library_->group_start(), "ncclGroupStart");
  int status = kSuccess;
  for (int root = 0; root < size_; ++root) {
    const auto bytes = static_cast<std::size_t>(sizes[static_cast<std::size_t>(root)]);
    if (bytes > 0 && status == kSuccess) {
      status = library_->broadcast(root == rank_ ? mine.data() : all, all, bytes, kBytes, root,
                                   communicator_, queue);
    }
    all += bytes;
  }
  const int ended = library_->group_end();
  check(status, "ncclBroadcast");
  check(ended, "ncclGroupEnd");
}

}  // namespace kvant::mpi
