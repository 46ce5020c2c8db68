// The program kvant: exit codes, interrupted and killed runs, small disks, and what gpt_bigcode
// makes of its results.

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <kvant/io/checkpoint.hpp>
#include <kvant/io/quantize_checkpoint.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "end_to_end/model_words.hpp"
#include "support/catch.hpp"
#include "support/folder_contents.hpp"
#include "support/folders.hpp"
#include "support/kvant_program.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::test::Contents;
using kvant::test::contents_of;
using kvant::test::entries_in;
using kvant::test::kData;
using kvant::test::kFp32Model;
using kvant::test::kKvantProgram;
using kvant::test::kTinyModel;
using kvant::test::kTinyText;
using kvant::test::kvant_program;
using kvant::test::ProcessResult;
using kvant::test::read_bytes;
using kvant::test::run_process;
using kvant::test::TempFolder;
using Clock = std::chrono::steady_clock;

/// Starts a run; `limit` bounds the size of a file it may write (0: none).
pid_t start(const std::vector<std::string>& words, rlim_t limit = 0) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  // A signal that comes before the program runs must not meet this program's own handlers.
  sigset_t mask;
  sigset_t before;
  ::sigemptyset(&mask);
  ::sigaddset(&mask, SIGINT);
  ::sigprocmask(SIG_BLOCK, &mask, &before);
  const pid_t child = ::fork();
  if (child != 0) ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    if (limit > 0) {
      const struct rlimit size { limit, limit };
      ::setrlimit(RLIMIT_FSIZE, &size);
    }
    std::freopen("/dev/null", "w", stdout);
    std::freopen("/dev/null", "w", stderr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  return child;
}

/// Waits for it; the exit code, or 128 + signal.
int finish(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Sends a signal at random moments of `runs` runs, which replace an old folder.
/// @return how many runs it ended
int interrupt_runs(int signal, int runs) {
  const TempFolder reference;
  const std::string done = (reference.path() / "done").string();
  const std::string model = kTinyModel;
  const auto begin = Clock::now();
  REQUIRE(kvant_program({"quantize", model, done, "--quiet"}).exit_code == 0);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const Contents wanted = contents_of(done);
  std::mt19937 random(7);
  int ended = 0;
  for (int run = 0; run < runs; ++run) {
    const TempFolder folder;
    const fs::path out = folder.path() / "out";
    const bool old_output = run % 2 == 0;
    if (old_output) {
      fs::create_directory(out);
      folder.write("out/model.safetensors", "old");
    }
    const Contents before = contents_of(out);
    const pid_t child =
        start({kKvantProgram, "quantize", model, out.string(), "--quiet", "--force"});
    const double wait = 1.1 * seconds * static_cast<double>(random() % 1000) / 1000;
    ::usleep(static_cast<useconds_t>(1e6 * wait));
    ::kill(child, signal);
    const int code = finish(child);
    INFO("run " << run << ", signal after " << wait << " s, exit code " << code);
    const Contents after = contents_of(out);
    CHECK((after == before || after == wanted));
    if (code == 0) CHECK(after == wanted);
    ended += code != 0;
    if (signal == SIGKILL) {  // a temporary folder may be left: the next run sweeps it up
      CHECK(kvant_program({"quantize", model, out.string(), "--quiet", "--force"}).exit_code == 0);
      CHECK(contents_of(out) == wanted);
      CHECK(entries_in(folder.path()) == 1u);
      continue;
    }
    CHECK((code == 0 || code == 1 || code == 128 + signal));
    CHECK(entries_in(folder.path()) == (after.empty() ? 0u : 1u));
  }
  return ended;
}

}  // namespace

TEST_CASE("kvant program: help, exit codes, one line per error") {
  for (const std::string command : {"quantize", "dequantize"}) {
    const ProcessResult help = kvant_program({command, "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.out.rfind("Examples:\n  kvant " + command, 0) == 0);
  }
  CHECK(kvant_program({"--help"}).exit_code == 0);
  CHECK(kvant_program({}).exit_code == 2);
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const std::vector<std::vector<std::string>> wrong = {
      {"explode"},
      {"quantize"},
      {"quantize", kFp32Model, out, "--scheme", "q4_k"},
      {"quantize", kFp32Model, out, "--only", "*"},
      {"quantize", kFp32Model, out, "--only", "*=q4_k"},
      {"quantize", kFp32Model, out, "--skip", "nothing"},
      {"quantize", kFp32Model, out, "--max-shard-size", "5XB"},
      {"quantize", kFp32Model, out, "--max-shard-size", "0"},
      {"quantize", kFp32Model, out, "--threads", "0"},
      {"quantize", kFp32Model, out, "--outliers", "never"},
      {"quantize", kFp32Model, kFp32Model, "--force"},
      {"dequantize", kFp32Model, out, "--dtype", "int8"}};
  for (const auto& words : wrong) {
    const ProcessResult result = kvant_program(words);
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.err.rfind("kvant: ", 0) == 0);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  }
  CHECK(kvant_program({"quantize", out, out}).exit_code == 1);
  CHECK(kvant_program({"dequantize", kFp32Model, out}).exit_code == 1);
  CHECK(entries_in(folder.path()) == 0);
  CHECK(kvant_program({"quantize", kFp32Model, out, "--dry-run"}).exit_code == 0);
  CHECK(entries_in(folder.path()) == 0);
  CHECK(kvant_program({"quantize", kFp32Model, out}).exit_code == 0);
  const ProcessResult again = kvant_program({"quantize", kFp32Model, out});
  CHECK(again.exit_code == 1);
  CHECK(again.err.find("--force") != std::string::npos);
  CHECK(kvant_program({"quantize", kFp32Model, out, "--force", "--quiet"}).out.empty());
  CHECK(read_bytes(fs::path(out) / "model.safetensors") ==
        read_bytes(kData / "checkpoints/bnb_int8/model.safetensors"));
}

TEST_CASE("kvant program: --keep-outliers and --only") {
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const std::string list =
      folder.write("list.json", "{\"transformer.h.0.mlp.c_fc\": [9, 3]}").string();
  CHECK(kvant_program({"quantize", kFp32Model, out, "--keep-outliers", list}).exit_code == 0);
  const kvant::io::Checkpoint kept(out);
  CHECK(kept.values<std::int64_t>("transformer.h.0.mlp.c_fc.kvant_keep_columns") ==
        std::vector<std::int64_t>{3, 9});
  for (const char* bad :
       {"[]", "{\"x\": 1}", "{\"x\": [-1]}", "{\"x\": [1]", "{\"x\": [1]}",
        "{\"transformer.h.0.mlp.c_fc\": [1, 1]}",
        "{\"transformer.h.0.mlp.c_fc\": [1], \"transformer.h.0.mlp.c_fc\": [2]}"}) {
    CHECK(kvant_program({"quantize", kFp32Model, out, "--force", "--keep-outliers",
                         folder.write("bad.json", bad).string()})
              .exit_code != 0);
  }
  CHECK(
      kvant_program({"quantize", kFp32Model, out, "--force", "--only", "*.mlp.*=int8"}).exit_code ==
      0);
  const kvant::io::Checkpoint mix(out);
  CHECK(mix.find("transformer.h.0.mlp.c_fc.weight")->dtype == kvant::DType::int8);
  CHECK(mix.find("transformer.h.0.attn.c_attn.weight")->dtype == kvant::DType::float32);
}

TEST_CASE("kvant program: killed at random moments 50 times") {
  CHECK(interrupt_runs(SIGKILL, 50) > 5);
}

TEST_CASE("kvant program: interrupted at random moments") {
  CHECK(interrupt_runs(SIGINT, 20) > 2);
}

TEST_CASE("kvant program: a disk that is too small at every place") {
  std::size_t failed = 0;
  for (rlim_t limit = 1000; limit < 130'000; limit += 8000) {
    const TempFolder folder;
    fs::create_directory(folder.path() / "out");
    folder.write("out/model.safetensors", "old");
    const int code = finish(start({kKvantProgram, "quantize", kFp32Model,
                                   (folder.path() / "out").string(), "--force", "--threads", "2"},
                                  limit));
    INFO("limit " << limit);
    REQUIRE((code == 0 || code == 1));
    const auto now = read_bytes(folder.path() / "out/model.safetensors");
    const bool complete = now == read_bytes(kData / "checkpoints/bnb_int8/model.safetensors");
    CHECK(complete == (code == 0));
    CHECK((complete || now.size() == 3));
    CHECK(entries_in(folder.path()) == 1);
    failed += code == 1;
  }
  CHECK(failed == 15);  // the file has 115,944 bytes
}

TEST_CASE("kvant program: a folder that may not be written to") {
  if (::geteuid() == 0) return;  // root may write everywhere
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const ProcessResult result =
      kvant_program({"quantize", kFp32Model, (folder.path() / "out").string()});
  fs::permissions(folder.path(), fs::perms::owner_all);
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("choose a folder that you may write to") != std::string::npos);
  CHECK(entries_in(folder.path()) == 0);
}

TEST_CASE("kvant program: gpt_bigcode runs what it wrote as what bitsandbytes wrote") {
  const TempFolder folder;
  const auto logits = [&](const fs::path& model, const std::string& mode) {
    const std::string file = (folder.path() / "logits").string();
    const ProcessResult result =
        run_process({KVANT_PROGRAM_DIR "/gpt_bigcode", model.string(), "--ids", "1,7,42,98,3,3",
                     "--logits", file, "--mode", mode});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return read_bytes(file);
  };
  const std::string out = (folder.path() / "out").string();
  const std::string sharded = (folder.path() / "sharded").string();
  const std::string kept = (folder.path() / "kept").string();
  CHECK(kvant_program({"quantize", kFp32Model, out}).exit_code == 0);
  CHECK(kvant_program({"quantize", kFp32Model, sharded, "--max-shard-size", "40kB"}).exit_code ==
        0);
  const std::string list =
      folder.write("list.json", "{\"transformer.h.1.attn.c_attn\": [0, 1, 2, 63]}").string();
  CHECK(kvant_program(
            {"quantize", kFp32Model, kept, "--keep-outliers", list, "--outliers", "per-row"})
            .exit_code == 0);
  for (const std::string mode : {"default", "bitsandbytes"}) {
    const auto golden = logits(kData / "checkpoints/bnb_int8", mode);
    CHECK(logits(out, mode) == golden);
    CHECK(logits(sharded, mode) == golden);
    // bitsandbytes' arithmetic sees the codes only; kvant's takes the kept weights.
    CHECK((logits(kept, mode) == golden) == (mode == "bitsandbytes"));
  }
}

TEST_CASE("kvant program: calibration keeps the weights that the outliers meet") {
  const TempFolder folder;
  const std::string model = kTinyModel;
  const std::string out = (folder.path() / "out").string();
  const std::string text = kTinyText;
  const ProcessResult made = kvant_program({"quantize", model, out, "--calibrate", text});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  std::size_t kept = 0;
  const kvant::io::Checkpoint result(out);
  for (const kvant::io::TensorInfo* info : result.tensors()) {
    kept += info->name.ends_with(".kvant_keep_columns");
  }
  CHECK(kept > 0);
  CHECK(kvant_program({"quantize", kFp32Model, out, "--force", "--calibrate", text}).exit_code ==
        1);
  CHECK(fs::exists(fs::path(out) / "tokenizer.json"));  // the old one: fp32 has no tokenizer
}

TEST_CASE("kvant program: options whose value is empty, lost, or means nothing") {
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const auto says = [&](std::vector<std::string> words, const std::string& part) {
    const ProcessResult result = kvant_program(std::move(words));
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.err.find(part) != std::string::npos);
    CHECK_FALSE(fs::exists(out));
  };
  for (const char* option : {"--threshold", "--scheme", "--skip", "--only", "--keep-outliers",
                             "--outliers", "--max-shard-size", "--group", "--block"}) {
    says({"quantize", kFp32Model, out, option, ""}, option);
  }
  says({"dequantize", kFp32Model, out, "--dtype", ""}, "--dtype");
  for (const char* value : {"1e-50", "1e50", "-1", "nan", "inf", "6x"}) {
    says({"quantize", kFp32Model, out, "--threshold", value}, value);
  }
  for (const char* option : {"--group", "--block"}) {
    for (const char* value : {"0", "-2", "64x", "1e400", "99999999999999999999"}) {
      says({"quantize", kFp32Model, out, "--scheme", "int4", option, value},
           std::string(option) + " " + value + ": neither a whole number above 0 nor -1");
    }
  }
  says({"quantize", kFp32Model, out, "--outliers", "calibrated"}, "--calibrate");
  says({"select", kFp32Model, "--budget", "-5dB"}, "-5dB");
  const std::string empty = folder.write("empty.txt", " \n\t").string();
  const ProcessResult calibrate =
      kvant_program({"quantize", kTinyModel, out, "--calibrate", empty});
  CHECK(calibrate.exit_code == 1);
  CHECK(calibrate.err.find("holds no text") != std::string::npos);
  CHECK_FALSE(fs::exists(out));
}

TEST_CASE("kvant program: --force replaces a checkpoint and nothing else") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  CHECK(kvant_program({"quantize", kFp32Model, out.string(), "--quiet"}).exit_code == 0);
  CHECK(kvant_program({"quantize", kFp32Model, out.string(), "--quiet", "--force"}).exit_code == 0);
  folder.write("out/notes.txt", "mine");
  const ProcessResult refused = kvant_program({"quantize", kFp32Model, out.string(), "--force"});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("notes.txt") != std::string::npos);
  CHECK(kvant::test::read_text(out / "notes.txt") == "mine");
}

TEST_CASE("kvant program: without a standard output the result is complete, and no file is hit") {
  const TempFolder folder;
  const std::string out = (folder.path() / "out").string();
  const auto shell = [&](const std::string& words) {
    return run_process({"/bin/sh", "-c", kKvantProgram + " " + words});
  };
  const Contents wanted = [&] {
    CHECK(kvant_program({"quantize", kFp32Model, out, "--quiet"}).exit_code == 0);
    return contents_of(out);
  }();
  for (const char* closed : {">&-", "<&- >&-", "<&- >&- 2>&-", "> /dev/full"}) {
    INFO(closed);
    CHECK(shell("quantize " + kFp32Model + " " + out + " --force " + closed).exit_code == 0);
    CHECK(contents_of(out) == wanted);
    CHECK(shell("inspect " + kFp32Model + " " + closed).exit_code ==
          1);  // its result is the output
  }
  CHECK(shell("quantize " + kFp32Model + " " + out + " --force > /dev/full")
            .err.find("warning: cannot write") != std::string::npos);
}

TEST_CASE("kvant program: select prints a command that a shell takes as it is") {
  const TempFolder folder;
  const fs::path odd = folder.path() / "it's a $(model); x";
  fs::copy(kFp32Model, odd);
  const std::string out = (folder.path() / "the result").string();
  const ProcessResult select =
      kvant_program({"select", odd.string(), "--budget", "40dB", "--quiet"});
  REQUIRE(select.exit_code == 0);
  std::string command = select.out.substr(select.out.rfind("kvant quantize"));
  command.replace(0, 5, kKvantProgram);
  const std::size_t at = command.find(" OUT ");
  REQUIRE(at != std::string::npos);
  command.replace(at, 5, " '" + out + "' --quiet ");
  const ProcessResult result = run_process({"/bin/sh", "-c", command});
  INFO(command << result.err);
  CHECK(result.exit_code == 0);
  CHECK(fs::exists(fs::path(out) / "model.safetensors"));
}
