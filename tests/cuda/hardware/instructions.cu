#include "cuda/hardware/instructions.hpp"

#include "cuda/hardware/device_memory.hpp"

namespace kvant::test {

std::vector<std::uint32_t> run_on_device(InstructionCase which,
                                         const std::vector<std::uint32_t>& in) {
  std::vector<std::uint32_t> out(kOutputWords, 0);
  Staging staging;
  const std::uint32_t* const device_in = staging.in(in.data(), kInputWords * 4);
  launch_case(which, {device_in, staging.in(out.data(), kOutputWords * 4)},
              reinterpret_cast<const unsigned char*>(device_in));
  finish("an instruction case");
  staging.out(out.data());
  return out;
}

}  // namespace kvant::test
