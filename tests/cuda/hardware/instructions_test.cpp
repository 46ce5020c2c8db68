// Instruction by instruction: the device and its emulation give the same words.

#include <string>

#include "cuda/hardware/instruction_cases.hpp"
#include "cuda/hardware/staged_kernels.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

void compare(InstructionCase which, const char* name) {
  for (unsigned repeat = 0; repeat < 8; ++repeat) {
    std::mt19937 generator(static_cast<std::uint32_t>(test_seed()) + repeat);
    std::vector<std::uint32_t> in(kInputWords);
    for (std::uint32_t& word : in) word = static_cast<std::uint32_t>(generator());
    const auto got = run_on_device(which, in);
    const auto want = run_emulated(which, in);
    std::size_t written = 0, different = 0, first = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      written += want[i] != 0;
      if (got[i] == want[i]) continue;
      if (different++ == 0) first = i;
    }
    INFO(name << ": word " << first << " is " << got[first] << ", emulated " << want[first]);
    CHECK(different == 0);
    CHECK(written > 50);
  }
}

}  // namespace

TEST_CASE("instructions of sm_80: the device and its emulation agree", "[cuda]") {
  compare(InstructionCase::warp, "a warp's");
  compare(InstructionCase::arithmetic, "arithmetic");
  compare(InstructionCase::block, "a block's");
}

TEST_CASE("instructions of sm_90a: the device and its emulation agree", "[cuda]") {
  if (device_major() != 9) return;
  compare(InstructionCase::tensor, "tensor copies in a cluster");
  compare(InstructionCase::wgmma_8, "wgmma, 8 columns");
  compare(InstructionCase::wgmma_16, "wgmma, 16 columns");
  compare(InstructionCase::wgmma_32, "wgmma, 32 columns");
  compare(InstructionCase::wgmma_64, "wgmma, 64 columns");
  compare(InstructionCase::wgmma_128, "wgmma, 128 columns");
  compare(InstructionCase::wgmma_256, "wgmma, 256 columns");
}

}  // namespace kvant::test
