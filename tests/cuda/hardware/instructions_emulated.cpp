#include "cuda/hardware/instructions.hpp"

#include <cstdlib>
#include <cstring>
#include <memory>

namespace kvant::test {

std::vector<std::uint32_t> run_emulated(InstructionCase which,
                                        const std::vector<std::uint32_t>& in) {
  const std::unique_ptr<unsigned char, decltype(&std::free)> aligned(
      static_cast<unsigned char*>(std::aligned_alloc(1024, kInputWords * 4)), &std::free);
  std::memcpy(aligned.get(), in.data(), kInputWords * 4);
  std::vector<std::uint32_t> out(kOutputWords, 0);
  launch_case(which, {reinterpret_cast<const std::uint32_t*>(aligned.get()), out.data()},
              aligned.get());
  return out;
}

}  // namespace kvant::test
