// Writing a checkpoint while the system fails: after every single failure the output is the old
// folder or the whole new one, and nothing else lies around.

#include <atomic>
#include <cerrno>
#include <map>
#include <string>

#include "io/failing_calls.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::Error;
using kvant::ErrorCode;
using kvant::io::quantize_checkpoint;
using kvant::io::QuantizeCheckpointOptions;
using kvant::test::FailingCalls;
using kvant::test::TempFolder;

const fs::path kModel = fs::path(KVANT_TEST_DATA) / "checkpoints/fp32";

using Contents = std::map<std::string, std::vector<std::byte>>;

Contents contents_of(const fs::path& folder) {
  Contents result;
  if (!fs::exists(folder)) return result;
  for (const auto& entry : fs::directory_iterator(folder)) {
    result[entry.path().filename().string()] = kvant::test::read_bytes(entry.path());
  }
  return result;
}

std::size_t entries_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Lets call n, and with `second` call n + 2 too, fail, for every n until none is left.
/// @return how many n made the job fail
int fail_each_call(bool old_output, int code, bool second) {
  QuantizeCheckpointOptions options;
  options.job.force = old_output;
  options.job.threads = 2;
  options.job.max_shard_size = 60'000;
  const TempFolder reference;
  quantize_checkpoint(kModel, reference.path() / "new", options);
  const Contents wanted = contents_of(reference.path() / "new");
  int failures = 0;
  for (std::int64_t n = 0;; ++n) {
    INFO("call " << n << " fails with errno " << code);
    const TempFolder folder;
    const fs::path out = folder.path() / "out";
    if (old_output) {
      fs::create_directory(out);
      folder.write("out/model.safetensors", "old");
    }
    const Contents before = contents_of(out);
    bool threw = false;
    int fired = 0;
    {
      const FailingCalls calls(
          second ? std::vector<std::int64_t>{n, n + 2} : std::vector<std::int64_t>{n}, code);
      try {
        quantize_checkpoint(kModel, out, options);
      } catch (const Error& error) {
        threw = true;
        CHECK(error.code() == ErrorCode::io);
      }
      fired = calls.failed();
    }
    CHECK(contents_of(out) == (threw ? before : wanted));
    CHECK(entries_in(folder.path()) == (threw && !old_output ? 0 : 1));
    if (fired == 0) return failures;
    failures += threw ? 1 : 0;
    REQUIRE(n < 1000);
  }
}

}  // namespace

TEST_CASE("faults: every call that creates, writes, syncs or renames fails once") {
  // Sixteen layers of three tensors, and the others: each has a write of its own.
  CHECK(fail_each_call(false, ENOSPC, false) > 40);
  CHECK(fail_each_call(true, ENOSPC, false) > 40);
  CHECK(fail_each_call(true, EIO, false) > 40);
}

TEST_CASE("faults: a system without an exchange of names, failing again on the way") {
  CHECK(fail_each_call(true, EINVAL, false) > 40);
  CHECK(fail_each_call(true, EINVAL, true) > 40);
}

TEST_CASE("faults: stopping at any piece leaves nothing") {
  for (int after = 0; after < 30; ++after) {
    const TempFolder folder;
    std::atomic<bool> cancel = after == 0;
    int pieces = 0;
    QuantizeCheckpointOptions options;
    options.job.threads = 2;
    options.job.cancel = &cancel;
    options.job.progress = [&](std::uint64_t done, std::uint64_t total, std::string_view name) {
      CHECK(done <= total);
      CHECK_FALSE(name.empty());
      if (++pieces == after) cancel = true;
    };
    ErrorCode code = ErrorCode::ok;
    try {
      quantize_checkpoint(kModel, folder.path() / "out", options);
    } catch (const Error& error) {
      code = error.code();
    }
    CHECK(code == (after <= 28 ? ErrorCode::cancelled : ErrorCode::ok));
    CHECK(entries_in(folder.path()) == (code == ErrorCode::ok ? 1 : 0));
  }
}
