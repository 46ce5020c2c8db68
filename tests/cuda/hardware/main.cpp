// Catch2's main, but for machines without a GPU: they skip, with a sentence and exit code 77.

#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "cuda/hardware/staged_kernels.hpp"
#include "support/catch.hpp"

int main(int argc, char** argv) {
  if (kvant::test::device_major() == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  return Catch::Session().run(argc, argv);
}
