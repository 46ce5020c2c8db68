#include "kvant/workspace.hpp"

#include <new>
#include <string>
#include <utility>

#include "kvant/aligned_array.hpp"
#include "kvant/error.hpp"

namespace kvant {

Workspace::~Workspace() {
  for (Block& block : blocks_) release(block);
}

Workspace::Workspace(Workspace&& other) noexcept : memory_(other.memory_) {
  for (int i = 0; i < kBlocks; ++i) blocks_[i] = std::exchange(other.blocks_[i], Block{});
}

Workspace& Workspace::operator=(Workspace&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(blocks_, other.blocks_);
  return *this;
}

void Workspace::release(Block& block) noexcept {
  if (block.data == nullptr) return;
  if (memory_ != nullptr) {
    memory_->release(block.data, block.size);
  } else {
    detail::free_aligned(block.data, block.size);
  }
  block = {};
}

std::byte* Workspace::block(std::size_t bytes, int index) {
  if (index < 0 || index >= kBlocks) {
    throw Error(ErrorCode::invalid_argument, "Workspace: block " + std::to_string(index) +
                                                 "; there are 0 to " + std::to_string(kBlocks - 1));
  }
  Block& block = blocks_[index];
  if (bytes <= block.size) return block.data;
  release(block);  // first give back: both at once may be what is too much
  void* data = nullptr;
  try {
    data = memory_ != nullptr ? memory_->allocate(bytes) : detail::allocate_aligned(bytes);
  } catch (const std::bad_alloc&) {
    data = nullptr;
  }
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory,
                "Workspace: no memory for a block of " + std::to_string(bytes) + " bytes" +
                    (memory_ != nullptr ? std::string(" in ") + memory_->space : std::string()));
  }
  block = {static_cast<std::byte*>(data), bytes};
  return block.data;
}

std::size_t Workspace::size() const noexcept {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.size;
  return bytes;
}

}  // namespace kvant
