// AtomicFile: complete or not at all, and nobody's work is lost.

#include <unistd.h>

#include <filesystem>
#include <string>

#include "kvant/io/atomic_file.hpp"
#include "kvant/io/text_file.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folder_contents.hpp"
#include "support/temp_folder.hpp"

namespace fs = std::filesystem;

namespace kvant::test {
TEST_CASE("AtomicFile: replaces, or keeps what came meanwhile") {
  const TempFolder folder;
  const fs::path path = folder.path() / "out.bin";
  io::AtomicFile first(path);
  io::AtomicFile second(path);
  first.write("first");
  second.write("second");
  first.commit(io::AtomicFile::Existing::keep);
  CHECK(message_of([&] { second.commit(io::AtomicFile::Existing::keep); }, ErrorCode::io) ==
        path.string() + ": was created by somebody else meanwhile");
  CHECK(io::read_text_file(path) == "first");
  second.commit();
  CHECK(io::read_text_file(path) == "second");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("AtomicFile: sweeps up what a killed run left, and nothing else") {
  const TempFolder folder;
  for (const char* name : {"out.tmp4711.0", "out.tmp4711.0.mine", "out.tmp", "other.tmp1.0"}) {
    folder.write(name, "half");
  }
  io::AtomicFile first(folder.path() / "out");
  CHECK(!fs::exists(folder.path() / "out.tmp4711.0"));
  CHECK(entries_in(folder.path()) == 4);
  {
    const io::AtomicFile second(folder.path() / "out");  // the first is at work: its file stays
    CHECK(entries_in(folder.path()) == 5);
  }
  first.write("whole");
  first.commit();
  CHECK(io::read_text_file(folder.path() / "out") == "whole");
  CHECK(entries_in(folder.path()) == 4);
}

}  // namespace kvant::test
