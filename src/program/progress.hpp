#pragma once

// Progress on stderr: a line that is drawn again and again on a terminal, a plain line now and then
// in a pipe or a file.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvant::program {

class Progress {
 public:
  /// @param quiet show nothing
  /// @param unit what is counted; empty: bytes
  explicit Progress(bool quiet, std::string unit = {});
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::uint64_t done, std::uint64_t total, std::string_view tensor);
  /// update() as the library's callback: steps done, of how many, and what is at work.
  [[nodiscard]] auto counter() {
    return [this](std::int64_t done, std::int64_t total, const std::string& what) {
      update(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total), what);
    };
  }
  /// Takes the bar away (what was printed as lines stays).
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] std::string status(std::uint64_t done, std::uint64_t total) const;

  [[nodiscard]] std::string amount(std::uint64_t count) const;

  bool terminal_;
  bool quiet_;
  std::string unit_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
};

}  // namespace kvant::program
