#include "kvant/context.hpp"

#include <new>
#include <string>

#include "kvant/error.hpp"
#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
Context::Context(const ContextOptions& options)
    : kernels_(&kernels_for(options.isa)),
      executor_(options.executor != nullptr ? options.executor : openmp_executor(options.threads)) {
}

std::string_view Context::isa() const noexcept { return kernels_->name; }

std::byte* Context::workspace(std::size_t bytes, int slot) {
  AlignedArray<std::byte>& block = workspace_[slot];
  if (bytes <= block.size()) return block.data();
  try {
    block = AlignedArray<std::byte>();  // first give back: both at once may be what is too much
    block = AlignedArray<std::byte>(bytes);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory,
                "Context: no memory for a workspace of " + std::to_string(bytes) + " bytes");
  }
  return block.data();
}

Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace kvant
