#include "kvant/context.hpp"

#include <string>

#include "kvant/error.hpp"
#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/support/device_data.hpp"

namespace kvant {

namespace {

/// A device does its own sharing out: the host gives it whole ranges.
std::shared_ptr<Executor> executor_for(const KernelTable& kernels, const ContextOptions& options) {
  if (kernels.memory != nullptr) return inline_executor();
  return options.executor != nullptr ? options.executor : openmp_executor(options.threads);
}

}  // namespace

Context::Context(const ContextOptions& options)
    : kernels_(options.kernels != nullptr ? options.kernels : &kernels_for(options.isa)),
      executor_(executor_for(*kernels_, options)),
      queue_(options.cuda_stream),
      workspace_(kernels_->memory) {
  if (queue_ != nullptr && kernels_->memory == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                std::string("Context: a cuda_stream for kernel set \"") + kernels_->name +
                    "\", which runs on the host");
  }
}

void Context::wait() {
  if (memory() != nullptr) detail::wait_or_fail(*memory(), queue_);
}

Executor& Context::executor() const noexcept {
  if (executor_ != nullptr) [[likely]]
    return *executor_;
  static const std::shared_ptr<Executor> fallback = inline_executor();
  return *fallback;
}

std::string_view Context::isa() const noexcept {
  return kernels_->name;
}

Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace kvant
