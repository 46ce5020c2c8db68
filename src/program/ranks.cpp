#include "ranks.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "interrupt.hpp"
#include "kvant/error.hpp"
#include "kvant/version.hpp"
#if KVANT_PROGRAM_MPI
#include "kvant/mpi.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MPI

namespace {

std::unique_ptr<mpi::Communicator> communicator;

/// What a rank prints nobody wants to read as many times as there are ranks.
void be_silent() {
  const int nowhere = ::open("/dev/null", O_WRONLY);
  if (nowhere < 0) return;
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  if (nowhere > STDERR_FILENO) ::close(nowhere);
}

}  // namespace

void join_ranks(const std::string& words) {
  if (mpi::launched_processes() <= 1) return;
  communicator = std::make_unique<mpi::Communicator>(mpi::Options{&interrupted()});
  if (communicator->rank() > 0) be_silent();
  communicator->agree("versions of kvant", KVANT_VERSION_STRING);
  communicator->agree("command lines", words);
}

Ranks* job_ranks() noexcept {
  return communicator.get();
}

int rank_on_machine() noexcept {
  return communicator == nullptr ? 0 : communicator->neighbours().own;
}

int threads_of_rank(int asked) {
  if (asked != 0 || communicator == nullptr) return asked;
  return std::max(
      1, static_cast<int>(std::thread::hardware_concurrency()) / communicator->neighbours().count);
}

DeviceSharing connect_devices(const Memory* memory, const std::string& own) {
  struct Device {
    int machine = 0;
    std::array<char, kLongestDeviceName + 1> name{};
    bool operator==(const Device&) const = default;
  };
  Device mine{.machine = communicator->neighbours().first};
  std::copy_n(own.begin(), std::min<std::size_t>(own.size(), kLongestDeviceName),
              mine.name.begin());
  std::vector<Device> all(static_cast<std::size_t>(communicator->size()));
  const std::vector<std::int64_t> sizes(all.size(), sizeof(Device));
  communicator->all_gather(std::as_bytes(std::span(&mine, 1)), sizes,
                           reinterpret_cast<std::byte*>(all.data()));
  DeviceSharing result;
  result.ranks = static_cast<int>(std::count(all.begin(), all.end(), mine));
  const auto lacks = [](const Device& device) { return device.name[0] == 0; };
  if (std::all_of(all.begin(), all.end(), lacks)) return result;
  result.way = "by way of the hosts";
  if (std::any_of(all.begin(), all.end(), lacks)) {
    result.way += " (a rank has no device)";
    return result;
  }
  for (auto device = all.begin(); device != all.end(); ++device) {
    if (std::find(std::next(device), all.end(), *device) == all.end()) continue;
    result.way += " (ranks share a device)";
    return result;
  }
  const char* const library = std::getenv("KVANT_NCCL");
  try {
    if (library == nullptr) {
      communicator->connect_devices(*memory);
    } else if (*library == 0) {
      throw Error(ErrorCode::unavailable, "KVANT_NCCL is empty");
    } else {
      communicator->connect_devices(*memory, library);
    }
    result.way = "NCCL " + communicator->nccl_version();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    result.way += std::string(" (") + error.what() + ")";
  }
  return result;
}

void leave_ranks() {
  if (communicator == nullptr) return;
  communicator->wait_for_all();
  communicator.reset();
}

std::string message_of(const Error& error) {
  const bool signalled = communicator != nullptr && !communicator->failed() && interrupted();
  if (!signalled || error.code() != ErrorCode::cancelled) return error.what();
  return mpi::kInterrupted;
}

void abandon_ranks(const std::string& message) noexcept {
  if (communicator != nullptr) communicator->fail(message);
}

#else

void join_ranks(const std::string&) {
  // Each process would do the whole job, and write the same files.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* const count = std::getenv(name);
    if (count == nullptr || std::atoi(count) <= 1) continue;
    throw Error(ErrorCode::unavailable,
                std::string("started as ") + count +
                    " processes, but this kvant was built without MPI (-DKVANT_MPI=ON)");
  }
}

Ranks* job_ranks() noexcept {
  return nullptr;
}
int rank_on_machine() noexcept {
  return 0;
}
int threads_of_rank(int asked) {
  return asked;
}
DeviceSharing connect_devices(const Memory*, const std::string&) {
  return {};
}
void leave_ranks() {}
std::string message_of(const Error& error) {
  return error.what();
}
void abandon_ranks(const std::string&) noexcept {}

#endif

bool leads() noexcept {
  return job_ranks() == nullptr || job_ranks()->rank() == 0;
}

namespace {

/// Bytes of a file here and there.
std::string looks_of(const std::filesystem::path& file) {
  constexpr std::uint64_t kHead = 64 << 10;  // a safetensors header, or most of one
  constexpr std::uint64_t kSample = 4 << 10;
  constexpr std::uint64_t kSamples = 16;
  const std::uint64_t size = std::filesystem::file_size(file);
  std::string looks;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorCode::io, file.string() + ": cannot be read");
  const auto take = [&](std::uint64_t at, std::uint64_t count) {
    std::vector<char> bytes(static_cast<std::size_t>(std::min(count, size - at)));
    stream.seekg(static_cast<std::streamoff>(at));
    stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    looks.append(bytes.begin(), bytes.end());
  };
  take(0, kHead);
  for (std::uint64_t i = 1; i <= kSamples && size > kHead; ++i) {
    take((size - std::min(size, kSample)) / kSamples * i, kSample);
  }
  return looks;
}

}  // namespace

void agree_on_files(const std::filesystem::path& path) {
  Ranks* const ranks = job_ranks();
  if (ranks == nullptr) return;
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else if (std::filesystem::exists(path)) {
    files.push_back(path);
  }
  std::string names = std::to_string(files.size()) + " files:";
  for (const auto& file : files) {
    names += " " + file.filename().string() + " (" +
             std::to_string(std::filesystem::file_size(file)) + " bytes)";
  }
  ranks->agree("files of " + path.string(), names);
  for (const auto& file : files) {
    ranks->agree("contents of " + file.filename().string(),
                 std::to_string(std::filesystem::file_size(file)) + " bytes", looks_of(file));
  }
}

}  // namespace kvant::program
