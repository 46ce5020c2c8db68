#pragma once

// Running a program and looking at what it says.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "support/temp_folder.hpp"

namespace kvant::test {

struct ProcessResult {
  int exit_code = -1;  ///< 128 + signal if it was killed
  std::string out;
  std::string err;
  std::size_t peak_bytes = 0;  ///< largest resident set
};

/// Runs a program to its end, without a shell, its input empty and its outputs in files.
inline ProcessResult run_process(const std::vector<std::string>& arguments,
                                 const std::string& out_file = "") {
  const TempFolder folder;
  const std::string out = out_file.empty() ? (folder.path() / "out").string() : out_file;
  const std::string err = (folder.path() / "err").string();
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    const int in_fd = ::open("/dev/null", O_RDONLY);
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT, 0600);
    const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(in_fd, 0);
    ::dup2(out_fd, 1);
    ::dup2(err_fd, 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  struct rusage usage {};
  ::wait4(child, &status, 0, &usage);
  ProcessResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (out_file.empty()) result.out = read_text(out);
  result.err = read_text(err);
  result.peak_bytes = static_cast<std::size_t>(usage.ru_maxrss) * 1024;
  return result;
}

}  // namespace kvant::test
