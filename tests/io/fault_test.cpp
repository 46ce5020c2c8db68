// Writing a checkpoint while the system fails: after every single failure the output is the old
// folder or the whole new one, and nothing else lies around.

#include <atomic>
#include <cerrno>
#include <string>

#include "io/failing_calls.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "support/catch.hpp"
#include "support/folder_contents.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::Error;
using kvant::ErrorCode;
using kvant::io::quantize_checkpoint;
using kvant::io::QuantizeCheckpointOptions;
using kvant::test::Contents;
using kvant::test::contents_of;
using kvant::test::entries_in;
using kvant::test::FailingCalls;
using kvant::test::kFp32;
using kvant::test::TempFolder;

/// Lets call n, and with `second` call n + 2 too, fail, for every n until none is left.
/// @return how many n made the job fail
int fail_each_call(bool old_output, int code, bool second) {
  QuantizeCheckpointOptions options;
  options.job.force = old_output;
  options.job.threads = 2;
  options.job.max_shard_size = 60'000;
  const TempFolder reference;
  quantize_checkpoint(kFp32, reference.path() / "new", options);
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
        quantize_checkpoint(kFp32, out, options);
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
      quantize_checkpoint(kFp32, folder.path() / "out", options);
    } catch (const Error& error) {
      code = error.code();
    }
    CHECK(code == (after <= 28 ? ErrorCode::cancelled : ErrorCode::ok));
    CHECK(entries_in(folder.path()) == (code == ErrorCode::ok ? 1 : 0));
  }
}
