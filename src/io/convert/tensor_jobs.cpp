#include "io/convert/tensor_jobs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::io {
namespace {

std::uint64_t bytes_of(DType dtype) {
  return static_cast<std::uint64_t>(describe(dtype).bits / 8);
}

/// A buffer of at least this size; its old contents are not kept.
template <class T>
std::span<T> grow(std::vector<T>& buffer, std::uint64_t size) {
  if (buffer.size() < size) {
    buffer.clear();  // so that growing copies nothing
    buffer.resize(static_cast<std::size_t>(size));
  }
  return std::span<T>(buffer).first(static_cast<std::size_t>(size));
}

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, std::uint64_t count) {
  default_context().kernels().convert(
      {from, from_dtype, to, to_dtype, static_cast<std::int64_t>(count)});
}

/// to [cols, rows] = from [rows, cols], whose rows are `stride` elements apart; in tiles that fit
/// the first-level cache.
template <class T>
void transpose(const T* from, std::uint64_t rows, std::uint64_t cols, std::uint64_t stride, T* to) {
  constexpr std::uint64_t kTile = 32;
  for (std::uint64_t r0 = 0; r0 < rows; r0 += kTile) {
    const std::uint64_t r1 = std::min(rows, r0 + kTile);
    for (std::uint64_t c0 = 0; c0 < cols; c0 += kTile) {
      const std::uint64_t c1 = std::min(cols, c0 + kTile);
      for (std::uint64_t c = c0; c < c1; ++c) {
        for (std::uint64_t r = r0; r < r1; ++r) to[c * rows + r] = from[r * stride + c];
      }
    }
  }
}

class CopyJob final : public TensorJob {
 public:
  using TensorJob::TensorJob;
  [[nodiscard]] std::uint64_t units() const override { return source().info->bytes; }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return 1; }
  void run(Scratch& scratch, std::uint64_t begin, std::uint64_t end,
           CheckpointWriter& out) override {
    const std::span<std::byte> bytes = grow(scratch.in, end - begin);
    source().read(begin, bytes);
    out.write(source().info->name, begin, bytes);
  }
};

class ConvertJob final : public TensorJob {
 public:
  ConvertJob(SourceTensor source, DType to) : TensorJob(source), to_(to) {}
  [[nodiscard]] std::uint64_t units() const override {
    return source().info->bytes / bytes_of(source().info->dtype);
  }
  [[nodiscard]] std::uint64_t unit_bytes() const override {
    return std::max(bytes_of(source().info->dtype), bytes_of(to_));
  }
  void run(Scratch& scratch, std::uint64_t begin, std::uint64_t end,
           CheckpointWriter& out) override {
    const DType from = source().info->dtype;
    const std::uint64_t count = end - begin;
    const std::span<std::byte> in = grow(scratch.in, count * bytes_of(from));
    const std::span<std::byte> result = grow(scratch.out, count * bytes_of(to_));
    source().read(begin * bytes_of(from), in);
    convert(in.data(), from, result.data(), to_, count);
    if (to_ == DType::float16) check_overflow(in, result, begin);
    out.write(source().info->name, begin * bytes_of(to_), result);
  }

 private:
  /// An infinity that was none before would break the model in silence.
  void check_overflow(std::span<const std::byte> in, std::span<const std::byte> result,
                      std::uint64_t begin) const {
    const auto* bits = reinterpret_cast<const std::uint16_t*>(result.data());
    const std::uint64_t count = result.size() / sizeof(std::uint16_t);
    for (std::uint64_t i = 0; i < count; ++i) {
      if ((bits[i] & 0x7FFFu) != 0x7C00u) continue;
      float value = 0;
      const DType from = source().info->dtype;
      convert(in.data() + i * bytes_of(from), from, &value, DType::float32, 1);
      if (std::isinf(value)) continue;
      throw Error(ErrorCode::not_finite, "tensor " + in_quotes(source().info->name) + ": element " +
                                             std::to_string(begin + i) + " is " +
                                             std::to_string(value) +
                                             ", beyond fp16's 65504; use bf16 or fp32");
    }
  }

  DType to_;
};

class QuantizeJob final : public TensorJob {
 public:
  QuantizeJob(SourceTensor source, std::string module, bool transposed,
              std::vector<std::int64_t> keep_columns)
      : TensorJob(source),
        module_(std::move(module)),
        transposed_(transposed),
        keep_(std::move(keep_columns)),
        outputs_(source.info->shape[transposed ? 1 : 0]),
        inputs_(source.info->shape[transposed ? 0 : 1]) {}

  [[nodiscard]] std::uint64_t units() const override {
    return std::max<std::uint64_t>(1, outputs_);
  }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return inputs_ * element(); }
  [[nodiscard]] bool staged() const override { return transposed_; }

  void run(Scratch& scratch, std::uint64_t begin, std::uint64_t end,
           CheckpointWriter& out) override {
    if (begin == 0) write_fixed(out);
    if (outputs_ == 0) return;
    const std::uint64_t rows = end - begin;
    const std::span<std::byte> in = grow(scratch.in, rows * unit_bytes());
    gather(begin, end, in);
    const auto result = bitsandbytes::vectorwise_quant(
        ConstAnyMatrix{in.data(), source().info->dtype, static_cast<std::int64_t>(rows),
                       static_cast<std::int64_t>(inputs_), static_cast<std::int64_t>(inputs_)});
    check(result.row_stats, begin);
    out.write(source().info->name, begin * inputs_, std::as_bytes(std::span(result.codes)));
    out.write(module_ + ".SCB", begin * sizeof(float), std::as_bytes(std::span(result.row_stats)));
    if (!keep_.empty()) write_kept(in, scratch, begin, rows, out);
  }

 private:
  [[nodiscard]] std::uint64_t element() const { return bytes_of(source().info->dtype); }

  /// Rows [begin, end) of the weight as [out, in].
  void gather(std::uint64_t begin, std::uint64_t end, std::span<std::byte> to) const {
    if (!transposed_) {
      source().read(begin * unit_bytes(), to);
    } else if (element() == 4) {
      transpose(reinterpret_cast<const std::uint32_t*>(staged_bytes()) + begin, inputs_,
                end - begin, outputs_, reinterpret_cast<std::uint32_t*>(to.data()));
    } else {
      transpose(reinterpret_cast<const std::uint16_t*>(staged_bytes()) + begin, inputs_,
                end - begin, outputs_, reinterpret_cast<std::uint16_t*>(to.data()));
    }
  }

  void check(const std::vector<float>& absmax, std::uint64_t begin) const {
    for (std::size_t i = 0; i < absmax.size(); ++i) {
      if (std::isfinite(absmax[i])) continue;
      throw Error(ErrorCode::not_finite,
                  "layer " + in_quotes(module_) + ": output " + std::to_string(begin + i) +
                      " has a weight that is NaN, infinite or beyond fp16's 65504; keep the layer "
                      "in float (--skip)");
    }
  }

  /// What does not depend on the weights.
  void write_fixed(CheckpointWriter& out) const {
    const std::byte row_by_row{0};
    out.write(module_ + ".weight_format", 0, {&row_by_row, 1});
    if (!keep_.empty()) {
      out.write(module_ + ".kvant_keep_columns", 0, std::as_bytes(std::span(keep_)));
    }
  }

  void write_kept(std::span<const std::byte> in, Scratch& scratch, std::uint64_t begin,
                  std::uint64_t rows, CheckpointWriter& out) const {
    const std::uint64_t kept = keep_.size();
    std::vector<std::byte> gathered(static_cast<std::size_t>(rows * kept * element()));
    std::byte* to = gathered.data();
    for (std::uint64_t r = 0; r < rows; ++r) {
      for (const std::int64_t column : keep_) {
        const std::uint64_t at = (r * inputs_ + static_cast<std::uint64_t>(column)) * element();
        std::memcpy(to, in.data() + at, static_cast<std::size_t>(element()));
        to += element();
      }
    }
    const std::span<std::byte> half = grow(scratch.out, rows * kept * sizeof(float16));
    convert(gathered.data(), source().info->dtype, half.data(), DType::float16, rows * kept);
    out.write(module_ + ".kvant_keep_weights", begin * kept * sizeof(float16), half);
  }

  std::string module_;
  bool transposed_;
  std::vector<std::int64_t> keep_;
  std::uint64_t outputs_;
  std::uint64_t inputs_;
};

class DequantizeJob final : public TensorJob {
 public:
  DequantizeJob(SourceTensor source, Int8Module module, DType to, bool transposed)
      : TensorJob(source), module_(std::move(module)), to_(to), transposed_(transposed) {}

  [[nodiscard]] std::uint64_t units() const override { return transposed_ ? inputs() : outputs(); }
  [[nodiscard]] std::uint64_t unit_bytes() const override {
    return (transposed_ ? outputs() : inputs()) * sizeof(float);
  }
  [[nodiscard]] bool staged() const override { return transposed_; }

  void run(Scratch& scratch, std::uint64_t begin, std::uint64_t end,
           CheckpointWriter& out) override {
    const std::uint64_t count = (end - begin) * (transposed_ ? outputs() : inputs());
    const std::span<float> floats = grow(scratch.floats, count);
    if (transposed_) {
      inputs_of(begin, end, scratch, floats);
    } else {
      outputs_of(begin, end, scratch, floats);
    }
    const std::uint64_t at = begin * unit_bytes() / sizeof(float) * bytes_of(to_);
    if (to_ == DType::float32) {
      out.write(source().info->name, at, std::as_bytes(floats));
      return;
    }
    const std::span<std::byte> narrow = grow(scratch.out, count * bytes_of(to_));
    convert(floats.data(), DType::float32, narrow.data(), to_, count);
    out.write(source().info->name, at, narrow);
  }

 private:
  [[nodiscard]] std::uint64_t outputs() const { return source().info->shape[0]; }
  [[nodiscard]] std::uint64_t inputs() const { return source().info->shape[1]; }

  /// Rows [begin, end) of [out, in].
  void outputs_of(std::uint64_t begin, std::uint64_t end, Scratch& scratch,
                  std::span<float> floats) const {
    const std::uint64_t rows = end - begin;
    const std::span<std::byte> codes = grow(scratch.in, rows * inputs());
    source().read(begin * inputs(), codes);
    dequantize(codes.data(), begin, rows, inputs(), inputs(), 0, floats.data());
  }

  /// Rows [begin, end) of [in, out].
  void inputs_of(std::uint64_t begin, std::uint64_t end, Scratch& scratch,
                 std::span<float> floats) const {
    const std::uint64_t cols = end - begin;
    const std::span<std::byte> block = grow(scratch.out, outputs() * cols * sizeof(float));
    auto* values = reinterpret_cast<float*>(block.data());
    dequantize(staged_bytes() + begin, 0, outputs(), cols, inputs(), begin, values);
    transpose(values, outputs(), cols, cols, floats.data());
  }

  /// `rows` outputs from first_row on, `cols` inputs from first_col on, kept columns as kept.
  void dequantize(const std::byte* codes, std::uint64_t first_row, std::uint64_t rows,
                  std::uint64_t cols, std::uint64_t stride, std::uint64_t first_col,
                  float* to) const {
    const auto r = static_cast<std::int64_t>(rows);
    const auto c = static_cast<std::int64_t>(cols);
    bitsandbytes::vectorwise_dequant(
        {reinterpret_cast<const std::int8_t*>(codes), r, c, static_cast<std::ptrdiff_t>(stride)},
        std::span(module_.absmax)
            .subspan(static_cast<std::size_t>(first_row), static_cast<std::size_t>(rows)),
        {to, r, c});
    const ConstAnyMatrix& kept = module_.kept_weights;
    for (std::size_t k = 0; k < module_.keep_columns.size(); ++k) {
      const auto column = static_cast<std::uint64_t>(module_.keep_columns[k]);
      if (column < first_col || column >= first_col + cols) continue;
      for (std::uint64_t i = 0; i < rows; ++i) {
        const std::uint64_t at =
            (first_row + i) * module_.keep_columns.size() + k;  // contiguous in the file
        convert(static_cast<const std::byte*>(kept.data) + at * bytes_of(kept.dtype), kept.dtype,
                to + i * cols + (column - first_col), DType::float32, 1);
      }
    }
  }

  Int8Module module_;
  DType to_;
  bool transposed_;
};

}  // namespace

std::unique_ptr<TensorJob> copy_job(SourceTensor source) {
  return std::make_unique<CopyJob>(source);
}

std::unique_ptr<TensorJob> convert_job(SourceTensor source, DType to) {
  return std::make_unique<ConvertJob>(source, to);
}

std::unique_ptr<TensorJob> quantize_job(SourceTensor source, std::string module, bool transposed,
                                        std::vector<std::int64_t> keep_columns) {
  return std::make_unique<QuantizeJob>(source, std::move(module), transposed,
                                       std::move(keep_columns));
}

std::unique_ptr<TensorJob> dequantize_job(SourceTensor source, Int8Module module, DType to,
                                          bool transposed) {
  return std::make_unique<DequantizeJob>(source, std::move(module), to, transposed);
}

}  // namespace kvant::io
