// What blocking takes from the system's word for the size of a cache.

#include "dispatch/cpu_features.hpp"

#include "support/catch.hpp"

namespace kvant::detail {

TEST_CASE("second-level cache: plausible sizes are taken, others brought into range") {
  CHECK(sane_l2_bytes(1 << 20) == 1 << 20);
  CHECK(sane_l2_bytes(2 << 20) == 2 << 20);
  CHECK(sane_l2_bytes(1280 << 10) == 1280 << 10);
  // The ends of the range.
  CHECK(sane_l2_bytes(64 << 10) == 64 << 10);
  CHECK(sane_l2_bytes((64 << 10) - 1) == 64 << 10);
  CHECK(sane_l2_bytes(4 << 20) == 4 << 20);
  CHECK(sane_l2_bytes((4 << 20) + 1) == 4 << 20);
  // Silent, as glibc is on ARM; no such question.
  CHECK(sane_l2_bytes(0) == 512 << 10);
  CHECK(sane_l2_bytes(-1) == 512 << 10);
  // A unit mistaken; a level shared by several cores; the third level of a whole socket.
  CHECK(sane_l2_bytes(1024) == 64 << 10);
  CHECK(sane_l2_bytes(12 << 20) == 4 << 20);
  CHECK(sane_l2_bytes(256L << 20) == 4 << 20);

  CHECK(l2_bytes() >= 64 << 10);
  CHECK(l2_bytes() <= 4 << 20);
}

}  // namespace kvant::detail
