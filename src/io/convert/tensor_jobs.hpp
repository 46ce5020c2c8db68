#pragma once

// What happens to one tensor on its way from checkpoint to checkpoint, cut into pieces that any
// thread may do in any order with a few megabytes of its own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/layers/stored_format.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/checkpoint_writer.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/tensor_file.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::io {

/// A tensor that is read piece by piece.
struct SourceTensor {
  const TensorInfo* info = nullptr;
  const TensorFile* file = nullptr;

  /// Bytes [begin, begin + size) of the tensor.
  void read(std::uint64_t begin, std::span<std::byte> into) const {
    file->read(*info, begin, into);
  }
};

/// What a thread works with: kernels, and buffers that grow to a piece's size and are kept.
struct Worker {
  const KernelTable* kernels = nullptr;
  std::vector<std::byte> in = {};
  std::vector<std::byte> out = {};
  std::vector<float> floats = {};
};

class TensorJob {
 public:
  explicit TensorJob(SourceTensor source) : source_(source) {}
  virtual ~TensorJob() = default;
  TensorJob(const TensorJob&) = delete;
  TensorJob& operator=(const TensorJob&) = delete;

  [[nodiscard]] const SourceTensor& source() const noexcept { return source_; }
  /// The pieces are ranges of [0, units()).
  [[nodiscard]] virtual std::uint64_t units() const = 0;
  /// Memory that a unit needs in each of the buffers.
  [[nodiscard]] virtual std::uint64_t unit_bytes() const = 0;
  /// Does the units [begin, end).
  virtual void run(Worker& worker, std::uint64_t begin, std::uint64_t end,
                   CheckpointWriter& out) = 0;

  /// Whether the whole source must be in memory before the first run(): where it is transposed.
  /// One such job is worked on at a time.
  [[nodiscard]] virtual bool staged() const { return false; }
  void open_stage();
  void stage(std::uint64_t begin, std::uint64_t end);  ///< bytes of the source
  void close_stage() { stage_.reset(); }

 protected:
  [[nodiscard]] const std::byte* staged_bytes() const noexcept { return stage_.get(); }

 private:
  SourceTensor source_;
  std::unique_ptr<std::byte[]> stage_;
};

/// As it is.
std::unique_ptr<TensorJob> copy_job(SourceTensor source);
/// F32, F16 or BF16 to another of these. @throws from run(): Error not_finite (beyond fp16)
std::unique_ptr<TensorJob> convert_job(SourceTensor source, DType to);
/// How a layer is quantized; what is pointed to outlives the job.
struct QuantizeJobOptions {
  bool transposed = false;                 ///< the source is [in, out]
  const WeightScaling* scaling = nullptr;  ///< null: none
  const LayerEncoder* encoder = nullptr;   ///< null: the form's own
};
/// To the tensors of a layer in another form.
/// @throws from run(): Error not_finite
std::unique_ptr<TensorJob> quantize_job(SourceTensor source, const StoredFormat& form,
                                        NewLayer layer, const QuantizeJobOptions& options);
/// A vector or matrix times its factors. @param transposed a matrix is [in, out]
std::unique_ptr<TensorJob> scale_job(SourceTensor source, const WeightScaling& scaling, DType to,
                                     bool transposed);
/// A quantized layer to a float weight. @param transposed the result is [in, out]
/// The layer's scales are in memory from its first run() to its last.
std::unique_ptr<TensorJob> dequantize_job(SourceTensor source, const Checkpoint& checkpoint,
                                          const StoredLayer& layer, DType to, bool transposed);

class RankExchange;

/// Does all jobs, threads overlapping; those without a stage in any order.
/// @param exchange where ranks share the jobs: these are done together with the others'
/// @throws what the first failing job throws; Error cancelled
void run_jobs(std::vector<std::unique_ptr<TensorJob>>& jobs, CheckpointWriter& out,
              const JobOptions& options, RankExchange* exchange = nullptr);

}  // namespace kvant::io
