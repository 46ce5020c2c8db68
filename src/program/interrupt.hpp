#pragma once

// SIGINT and SIGTERM as a flag, so that a long job can end in order.

#include <atomic>

namespace kvant::program {

/// From the first call on, SIGINT, SIGTERM and SIGHUP set the flag instead of ending the program; a
/// second SIGINT ends it at once.
const std::atomic<bool>& interrupted();

}  // namespace kvant::program
