#pragma once

// What happens to one tensor on its way from checkpoint to checkpoint, cut into pieces that any
// thread may do in any order with a few megabytes of its own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/file/input_file.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/checkpoint_writer.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors.hpp"

namespace kvant::io {

/// Where a tensor's bytes stand.
struct SourceTensor {
  const TensorInfo* info = nullptr;
  const InputFile* file = nullptr;
  std::uint64_t offset = 0;  ///< from the start of the file

  /// Bytes [begin, begin + size) of the tensor.
  void read(std::uint64_t begin, std::span<std::byte> into) const {
    file->read_at(offset + begin, into);
  }
};

/// A thread's buffers; they grow to a piece's size and are kept.
struct Scratch {
  std::vector<std::byte> in;
  std::vector<std::byte> out;
  std::vector<float> floats;
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
  virtual void run(Scratch& scratch, std::uint64_t begin, std::uint64_t end,
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
/// To codes, SCB, weight_format and kept columns of `module`.
/// @param transposed the source is [in, out]
/// @throws from run(): Error not_finite
std::unique_ptr<TensorJob> quantize_job(SourceTensor source, std::string module, bool transposed,
                                        std::vector<std::int64_t> keep_columns);
/// An 8-bit layer to a float weight. @param transposed the result is [in, out]
std::unique_ptr<TensorJob> dequantize_job(SourceTensor source, Int8Module module, DType to,
                                          bool transposed);

/// Does all jobs, threads overlapping; those without a stage in any order.
/// @throws what the first failing job throws; Error cancelled
void run_jobs(std::vector<std::unique_ptr<TensorJob>>& jobs, CheckpointWriter& out,
              const JobOptions& options);

}  // namespace kvant::io
