#include "kvant/workspace.hpp"

#include <new>
#include <string>

#include "kvant/error.hpp"

namespace kvant {

std::byte* Workspace::block(std::size_t bytes, int index) {
  if (index < 0 || index >= kBlocks) {
    throw Error(ErrorCode::invalid_argument, "Workspace: block " + std::to_string(index) +
                                                 "; there are 0 to " + std::to_string(kBlocks - 1));
  }
  AlignedArray<std::byte>& block = blocks_[index];
  if (bytes <= block.size()) return block.data();
  try {
    block = AlignedArray<std::byte>();  // first give back: both at once may be what is too much
    block = AlignedArray<std::byte>(bytes);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory,
                "Workspace: no memory for a block of " + std::to_string(bytes) + " bytes");
  }
  return block.data();
}

std::size_t Workspace::size() const noexcept {
  std::size_t bytes = 0;
  for (const AlignedArray<std::byte>& block : blocks_) bytes += block.size();
  return bytes;
}

}  // namespace kvant
