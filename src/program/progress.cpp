#include "progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "command_line.hpp"

namespace kvant::program {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLineEvery = std::chrono::seconds(5);
constexpr std::size_t kBarWidth = 24;

std::size_t terminal_width() {
  struct winsize size {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string time_text(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  }
  return text;
}

}  // namespace

Progress::Progress(bool quiet, std::string unit)
    : terminal_(::isatty(STDERR_FILENO) != 0), quiet_(quiet), unit_(std::move(unit)) {
  last_ = start_;
}

Progress::~Progress() {
  finish();
}

std::string Progress::amount(std::uint64_t count) const {
  return unit_.empty() ? size_text(count) : std::to_string(count);
}

std::string Progress::status(std::uint64_t done, std::uint64_t total) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text = amount(done) + " of " + amount(total) + (unit_.empty() ? "" : " " + unit_);
  // What the first moments are like says nothing about the rest.
  constexpr double kEnoughToGuess = 3;
  if (rate > 0 && seconds >= kEnoughToGuess) {
    text += "  " + amount(static_cast<std::uint64_t>(rate)) + "/s  " +
            time_text(static_cast<double>(total - done) / rate) + " left";
  }
  return text;
}

void Progress::update(std::uint64_t done, std::uint64_t total, std::string_view tensor) {
  if (quiet_) return;
  const Clock::time_point now = Clock::now();
  if (now - last_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kLineEvery))) return;
  last_ = now;
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  char percent[16];
  std::snprintf(percent, sizeof percent, "%3.0f%%", 100 * part);
  if (!terminal_) {
    std::fprintf(stderr, "%s  %s\n", percent, status(done, total).c_str());
    return;
  }
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(kBarWidth));
  std::string line = std::string(percent) + " [" + std::string(filled, '#') +
                     std::string(kBarWidth - std::min(filled, kBarWidth), '.') + "] " +
                     status(done, total) + "  ";
  for (const char c : tensor) line += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  const std::size_t width = terminal_width() - 1;
  if (line.size() > width) line.resize(width);
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  drawn_ = true;
}

void Progress::finish() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace kvant::program
