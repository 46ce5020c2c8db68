#pragma once

// Records, the table that people read and the JSON that scripts read.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "harness/options.hpp"
#include "harness/runner.hpp"

namespace kvant::bench {

struct Record {
  std::string question{};
  std::int64_t m = 0, n = 0, k = 0;
  int threads = 1;
  std::string isa{};
  std::string dtype{};
  int outliers = 0;
  std::string unit{};
  Figure value{};
  double ceiling = 0;                     ///< in the same unit; 0: none
  std::map<std::string, double> peers{};  ///< in the same unit
  std::string what{};                     ///< for sums over layers and the like
  std::string format{};                   ///< of weights, where a question has several
  int group = 0;
};

/// The figures of entries [first, last) as the peers of a record.
void set_peers(Record& record, const std::vector<Entry>& entries,
               const std::vector<Figure>& figures, std::size_t first, std::size_t last);

class Report {
 public:
  /// Prints the head of the table: machine, compiler, commit, kernel set.
  Report(const Options& options, std::string isa);
  void add(const Record& record);
  /// Something about the run: a peer that cannot run here, a ceiling's name.
  void note(const std::string& text);
  /// A peer that is not here is noted, not an error.
  void note_absent(const std::string& peer);
  /// A wrong answer: the run will end with exit status 1.
  void wrong(const std::string& what);
  /// Writes the JSON file, if one was asked for; the exit status of the program.
  int finish();

 private:
  Options options_;
  std::vector<Record> records_;
  std::vector<std::string> notes_;
  bool wrong_ = false;
};

}  // namespace kvant::bench
