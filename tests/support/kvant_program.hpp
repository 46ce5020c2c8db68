#pragma once

// Running the program kvant.

#include <algorithm>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/child_process.hpp"

namespace kvant::test {

inline const std::string kKvantProgram = std::string(KVANT_PROGRAM_DIR) + "/kvant";

inline ProcessResult kvant_program(std::vector<std::string> words) {
  words.insert(words.begin(), kKvantProgram);
  return run_process(words);
}

/// Its one line of error. Checks that there is nothing else, and the exit code.
inline std::string kvant_failure(const std::vector<std::string>& words, int code) {
  const ProcessResult result = kvant_program(words);
  INFO(result.err);
  CHECK(result.exit_code == code);
  CHECK(result.out.empty());
  CHECK(result.err.find("kvant: ") == 0);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  return result.err;
}

/// kvant run with these words.
inline ProcessResult kvant_run(std::vector<std::string> words) {
  words.insert(words.begin(), "run");
  return kvant_program(words);
}
inline std::string kvant_run_failure(std::vector<std::string> words, int code) {
  words.insert(words.begin(), "run");
  return kvant_failure(words, code);
}

}  // namespace kvant::test
