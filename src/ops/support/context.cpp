#include "kvant/context.hpp"

#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {

Context::Context(const ContextOptions& options)
    : kernels_(&kernels_for(options.isa)),
      executor_(options.executor != nullptr ? options.executor : openmp_executor(options.threads)) {
}

std::string_view Context::isa() const noexcept {
  return kernels_->name;
}

Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace kvant
