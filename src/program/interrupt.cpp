#include "interrupt.hpp"

#include <csignal>

namespace kvant::program {
namespace {

std::atomic<bool> signalled = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

void on_signal(int number) {
  signalled = true;
  std::signal(number, SIG_DFL);
}

}  // namespace

const std::atomic<bool>& interrupted() {
  static const bool installed = [] {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, on_signal);
    return true;
  }();
  static_cast<void>(installed);
  return signalled;
}

}  // namespace kvant::program
