#pragma once

// The cases of instructions.hpp, and the two ways to run one.

#include <cstdint>
#include <vector>

namespace kvant::test {

enum class InstructionCase {
  warp,
  arithmetic,
  block,  // sm_80
  tensor,
  wgmma_8,
  wgmma_16,
  wgmma_32,
  wgmma_64,
  wgmma_128,
  wgmma_256,  // sm_90a
};

inline constexpr int kBoxRows = 16, kTensorWidth = 256, kTensorRows = 24;
inline constexpr std::size_t kTensorBytes = (64 + 256) * 128;
inline constexpr std::size_t kInputWords = 256 * 64;
inline constexpr std::size_t kOutputWords = 32768;

/// @param in  kInputWords of random bits, whose first kTensorBytes are the operands of sm_90a
/// @return kOutputWords, zeros where a case writes nothing
std::vector<std::uint32_t> run_on_device(InstructionCase which,
                                         const std::vector<std::uint32_t>& in);
std::vector<std::uint32_t> run_emulated(InstructionCase which,
                                        const std::vector<std::uint32_t>& in);

}  // namespace kvant::test
