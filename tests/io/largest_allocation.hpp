#pragma once

// The largest single request to operator new in this test program since it was last set to 0.

#include <atomic>
#include <cstddef>

namespace kvant::test {

std::atomic<std::size_t>& largest_allocation();

}  // namespace kvant::test
