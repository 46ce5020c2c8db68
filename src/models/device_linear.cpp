#include "kvant/models/device_linear.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::models {
namespace {

constexpr int kX = 0;
constexpr int kResults = 1;

/// Results begin at multiples of 256 bytes.
std::size_t padded(std::int64_t floats) {
  return static_cast<std::size_t>((floats + 63) / 64 * 64);
}

/// A call of this many rows; where it has no memory the error says what to do.
template <class Call>
void in_call(std::int64_t rows, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    throw Error(ErrorCode::out_of_memory,
                std::string(error.what()) + ", for a call of " + std::to_string(rows) +
                    " rows; leave the device more memory beside the layers, or make shorter calls");
  }
}

}  // namespace

Device::Device(const KernelTable& kernels)
    : context_(ContextOptions{.kernels = &kernels}), blocks_(kernels.memory), input_({}) {
  if (kernels.memory != nullptr) return;
  throw Error(ErrorCode::invalid_argument, std::string("Device: kernel set \"") + kernels.name +
                                               "\" works on the host's memory");
}

void Device::reserve(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  static_cast<void>(blocks_.block(static_cast<std::size_t>(rows * inputs) * sizeof(float), kX));
  make_room(padded(rows * outputs));
}

std::size_t Device::call_bytes() const noexcept {
  return blocks_.size() + activations_.memory_footprint() + context_.workspace_size();
}

void Device::make_room(std::size_t floats) {
  if (floats <= results_room_) return;
  results_room_ = 0;  // should there be none
  static_cast<void>(blocks_.block(floats * sizeof(float), kResults));
  results_room_ = floats;
}

void Device::copy(void* to, const void* from, std::int64_t floats, CopyKind kind) {
  const Memory& memory = *context_.memory();
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  if (bytes == 0) return;
  if (memory.copy(to, from, bytes, kind, context_.queue())) return;
  context_.wait();  // throws what the device says
  throw Error(ErrorCode::device_failed,
              std::string(memory.space) + ": copying " + std::to_string(bytes) + " bytes: refused");
}

void Device::upload(LayerInput& x) {
  // (Results that nobody waited for are of a call that failed.)
  results_.clear();
  results_used_ = 0;
  const MatrixView<const float> host = x.x();
  const auto bytes = static_cast<std::size_t>(host.size()) * sizeof(float);
  auto* const there = reinterpret_cast<float*>(blocks_.block(bytes, kX));
  copy(there, host.data(), host.size(), CopyKind::to_device);
  input_ = LayerInput({there, host.rows(), host.cols()}, &activations_);
  x.device_ = this;
  x.number_there_ = ++number_;
}

void Device::start(LayerInput& x, const Linear& layer, MatrixView<float> y, bool round_to_bf16) {
  const std::int64_t rows = x.x().rows();
  const std::int64_t outputs = layer.out_features();
  if (rows == 0 || outputs == 0) return;
  in_call(rows, [&] {
    if (x.device_ != this || x.number_there_ != number_) upload(x);
    const std::size_t floats = padded(rows * outputs);
    if (results_used_ + floats > results_room_) {
      const std::size_t all = results_used_ + floats;  // what the next such group needs
      finish();
      make_room(all);
    }
    input_.forward(context_, layer, next_result(rows, outputs));
    results_.push_back({results_used_, y, round_to_bf16});
    results_used_ += floats;
  });
}

void Device::forward(const RowParallelLinear& layer, LayerInput& x, MatrixView<float> y,
                     bool round_to_bf16) {
  if (y.rows() == 0 || y.cols() == 0) return;
  in_call(y.rows(), [&] {
    upload(x);
    make_room(padded(y.size()));
    layer.forward(context_, input_.x(), next_result(y.rows(), y.cols()));
    results_.push_back({0, y, round_to_bf16});
    results_used_ = padded(y.size());
    layer.wait(context_);
    finish();
  });
}

AnyMatrix Device::next_result(std::int64_t rows, std::int64_t outputs) {
  std::byte* const results = blocks_.block(results_room_ * sizeof(float), kResults);
  return {results + results_used_ * sizeof(float), DType::float32, rows, outputs, outputs};
}

void Device::finish() {
  if (results_.empty()) return;
  const std::size_t used = std::exchange(results_used_, 0);
  staging_.resize(std::max(staging_.size(), used));
  const std::vector<Result> results = std::exchange(results_, {});
  copy(staging_.data(), blocks_.block(used * sizeof(float), kResults),
       static_cast<std::int64_t>(used), CopyKind::to_host);
  for (const Result& result : results) {
    const float* from = staging_.data() + result.offset;
    for (std::int64_t r = 0; r < result.y.rows(); ++r, from += result.y.cols()) {
      float* const to = result.y.row_data(r);
      std::memcpy(to, from, static_cast<std::size_t>(result.y.cols()) * sizeof(float));
      if (result.round_to_bf16) round_to_bfloat16(to, result.y.cols());
    }
  }
}

void DeviceLinear::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  start(context, x, y);
  x.finish();
}

void DeviceLinear::start(Context&, LayerInput& x, MatrixView<float> y) const {
  device_->start(x, layer_, y, round_to_bf16_);
}

void LayerInput::finish() {
  if (device_ != nullptr) device_->finish();
}

}  // namespace kvant::models
