#include "io/convert/tensor_jobs.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <utility>

#include "io/text/quoting.hpp"
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

void convert(const Worker& worker, const void* from, DType from_dtype, void* to, DType to_dtype,
             std::uint64_t count) {
  worker.kernels->convert({from, from_dtype, to, to_dtype, static_cast<std::int64_t>(count)});
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
  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    const std::span<std::byte> bytes = grow(worker.in, end - begin);
    source().read(begin, bytes);
    out.write(source().info->name, begin, bytes);
  }
};

/// An infinity that was not one before would break the model in silence.
/// @param first the number of the first element, for the message
/// @throws Error not_finite
void check_overflow(const Worker& worker, const std::string& what, std::uint64_t first,
                    std::span<const std::byte> in, DType from, std::span<const std::byte> result,
                    DType to) {
  if (to == DType::float32) return;
  const unsigned infinity = to == DType::float16 ? 0x7C00u : 0x7F80u;
  const auto* bits = reinterpret_cast<const std::uint16_t*>(result.data());
  const std::uint64_t count = result.size() / sizeof(std::uint16_t);
  for (std::uint64_t i = 0; i < count; ++i) {
    if ((bits[i] & 0x7FFFu) != infinity) continue;
    float value = 0;
    convert(worker, in.data() + i * bytes_of(from), from, &value, DType::float32, 1);
    if (std::isinf(value)) continue;
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", static_cast<double>(value));
    throw Error(
        ErrorCode::not_finite,
        what + ": element " + std::to_string(first + i) + " is " + number + ", beyond " +
            (to == DType::float16 ? "fp16's 65504; use bf16 or fp32" : "bf16's 3.39e38; use fp32"));
  }
}

class ConvertJob final : public TensorJob {
 public:
  ConvertJob(SourceTensor source, DType to) : TensorJob(source), to_(to) {}
  [[nodiscard]] std::uint64_t units() const override {
    return source().info->bytes / bytes_of(source().info->dtype);
  }
  [[nodiscard]] std::uint64_t unit_bytes() const override {
    return std::max(bytes_of(source().info->dtype), bytes_of(to_));
  }
  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    const DType from = source().info->dtype;
    const std::uint64_t count = end - begin;
    const std::span<std::byte> in = grow(worker.in, count * bytes_of(from));
    const std::span<std::byte> result = grow(worker.out, count * bytes_of(to_));
    source().read(begin * bytes_of(from), in);
    convert(worker, in.data(), from, result.data(), to_, count);
    check_overflow(worker, "tensor " + in_quotes(source().info->name), begin, in, from, result,
                   to_);
    out.write(source().info->name, begin * bytes_of(to_), result);
  }

 private:
  DType to_;
};

TensorSink sink_of(CheckpointWriter& out) {
  return [&out](std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes) {
    out.write(name, offset, bytes);
  };
}

/// w [rows, inputs] of the outputs from `first` on, times its factors.
void multiply(const WeightScaling& scaling, std::uint64_t first, MatrixView<float> w) {
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    const float output =
        scaling.outputs.empty()
            ? 1.0f
            : scaling.outputs[static_cast<std::size_t>(first) + static_cast<std::size_t>(r)];
    float* row = w.row_data(r);
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      const float factor =
          scaling.inputs.empty() ? output : output * scaling.inputs[static_cast<std::size_t>(c)];
      row[c] = (row[c] + scaling.offset) * factor - scaling.offset;
    }
  }
}

/// A vector is a column of outputs.
class ScaleJob final : public TensorJob {
 public:
  ScaleJob(SourceTensor source, const WeightScaling& scaling, DType to, bool transposed)
      : TensorJob(source), scaling_(scaling), to_(to) {
    if (transposed) std::swap(scaling_.outputs, scaling_.inputs);
  }
  [[nodiscard]] std::uint64_t units() const override { return source().info->shape.front(); }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return cols() * sizeof(float); }
  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    const DType from = source().info->dtype;
    const std::uint64_t count = (end - begin) * cols();
    const std::span<std::byte> in = grow(worker.in, count * bytes_of(from));
    source().read(begin * cols() * bytes_of(from), in);
    const std::span<float> floats = grow(worker.floats, count);
    convert(worker, in.data(), from, floats.data(), DType::float32, count);
    multiply(scaling_, begin,
             MatrixView<float>(floats.data(), static_cast<std::int64_t>(end - begin),
                               static_cast<std::int64_t>(cols())));
    const std::span<std::byte> result = grow(worker.out, count * bytes_of(to_));
    convert(worker, floats.data(), DType::float32, result.data(), to_, count);
    check_overflow(worker, "tensor " + in_quotes(source().info->name), begin * cols(),
                   std::as_bytes(floats), DType::float32, result, to_);
    out.write(source().info->name, begin * cols() * bytes_of(to_), result);
  }

 private:
  [[nodiscard]] std::uint64_t cols() const {
    return source().info->shape.size() < 2 ? 1 : source().info->shape[1];
  }

  WeightScaling scaling_;
  DType to_;
};

/// A unit is as many rows as the form wants together.
class QuantizeJob final : public TensorJob {
 public:
  QuantizeJob(SourceTensor source, const StoredFormat& form, NewLayer layer,
              const QuantizeJobOptions& options)
      : TensorJob(source),
        form_(form),
        layer_(std::move(layer)),
        options_(options),
        transposed_(options.transposed),
        together_(form.rows_together(layer_)) {}

  [[nodiscard]] std::uint64_t units() const override {
    return std::max<std::uint64_t>(1, (layer_.outputs + together_ - 1) / together_);
  }
  [[nodiscard]] std::uint64_t unit_bytes() const override {
    // An encoder works with several copies of its rows, in double.
    return std::min(together_, layer_.outputs) * row_bytes() *
           (options_.encoder != nullptr ? 8 : 1);
  }
  /// What an encoder knows of a layer may be large: one such layer at a time.
  [[nodiscard]] bool staged() const override { return transposed_ || options_.encoder != nullptr; }

  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    std::call_once(begun_, [this] { start(); });
    const TensorSink sink = sink_of(out);
    if (begin == 0) form_.write_fixed(layer_, sink);
    const std::uint64_t first = begin * together_;
    const std::uint64_t last = std::min(end * together_, layer_.outputs);
    if (last > first) {
      const std::span<std::byte> in = grow(worker.in, (last - first) * row_bytes());
      gather(first, last, in);
      const auto inputs = static_cast<std::int64_t>(layer_.inputs);
      const auto rows = static_cast<std::int64_t>(last - first);
      const auto at = static_cast<std::int64_t>(first);
      if (options_.encoder == nullptr && options_.scaling == nullptr) {
        form_.write_rows(*worker.kernels, layer_, at,
                         {in.data(), source().info->dtype, rows, inputs, inputs}, collected_, sink);
      } else {
        const MatrixView<float> floats(grow(worker.floats, (last - first) * layer_.inputs).data(),
                                       rows, inputs);
        convert(worker, in.data(), source().info->dtype, floats.data(), DType::float32,
                (last - first) * layer_.inputs);
        if (options_.scaling != nullptr) multiply(*options_.scaling, first, floats);
        write_floats(worker, at, floats, sink);
      }
    }
    if ((done_ += end - begin) == units()) {  // nobody else is left
      form_.write_end(layer_, collected_, sink);
      collected_ = {};
      encoder_.reset();
    }
  }

 private:
  void start() {
    collected_.resize(static_cast<std::size_t>(form_.collects(layer_)));
    if (options_.encoder == nullptr) return;
    named([&] {
      encoder_ = options_.encoder->open(layer_.name, static_cast<std::int64_t>(layer_.outputs),
                                        static_cast<std::int64_t>(layer_.inputs));
    });
    layer_.group_of = encoder_->group_of();
  }

  void write_floats(const Worker& worker, std::int64_t first, MatrixView<const float> rows,
                    const TensorSink& sink) {
    if (encoder_ == nullptr) {
      form_.write_rows(*worker.kernels, layer_, first, rows, collected_, sink);
      return;
    }
    named([&] { form_.write_codes(layer_, first, encoder_->encode(rows), sink); });
  }

  /// Errors of encoders get the layer's name.
  template <class Function>
  void named(Function function) const {
    try {
      function();
    } catch (const Error& error) {
      const std::string what = error.what();
      if (what.find(in_quotes(layer_.name)) != std::string::npos) throw;
      throw Error(error.code(), "layer " + in_quotes(layer_.name) + ": " + what);
    }
  }

  [[nodiscard]] std::uint64_t element() const { return bytes_of(source().info->dtype); }
  [[nodiscard]] std::uint64_t row_bytes() const { return layer_.inputs * element(); }

  /// Rows [begin, end) of the weight as [out, in].
  void gather(std::uint64_t begin, std::uint64_t end, std::span<std::byte> to) const {
    if (!transposed_) {
      source().read(begin * row_bytes(), to);
    } else if (element() == 4) {
      transpose(reinterpret_cast<const std::uint32_t*>(staged_bytes()) + begin, layer_.inputs,
                end - begin, layer_.outputs, reinterpret_cast<std::uint32_t*>(to.data()));
    } else {
      transpose(reinterpret_cast<const std::uint16_t*>(staged_bytes()) + begin, layer_.inputs,
                end - begin, layer_.outputs, reinterpret_cast<std::uint16_t*>(to.data()));
    }
  }

  const StoredFormat& form_;
  NewLayer layer_;
  QuantizeJobOptions options_;
  bool transposed_;
  std::uint64_t together_;
  std::once_flag begun_;
  std::unique_ptr<RowEncoder> encoder_;
  std::vector<float> collected_;
  std::atomic<std::uint64_t> done_ = 0;
};

class DequantizeJob final : public TensorJob {
 public:
  DequantizeJob(SourceTensor source, const Checkpoint& checkpoint, const StoredLayer& layer,
                DType to, bool transposed)
      : TensorJob(source),
        checkpoint_(checkpoint),
        layer_(layer),
        outputs_(static_cast<std::uint64_t>(layer.outputs)),
        inputs_(static_cast<std::uint64_t>(layer.inputs)),
        to_(to),
        transposed_(transposed),
        name_(layer.name + std::string(kWeightSuffix)),
        by_rows_(form_of(checkpoint, layer).by_rows()) {}

  [[nodiscard]] std::uint64_t units() const override { return transposed_ ? inputs_ : outputs_; }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return unit_size() * sizeof(float); }
  [[nodiscard]] bool staged() const override { return transposed_ || !by_rows_; }

  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    std::call_once(opened_,
                   [this] { rows_ = form_of(checkpoint_, layer_).open(checkpoint_, layer_); });
    const std::uint64_t count = (end - begin) * unit_size();
    const std::span<float> floats = grow(worker.floats, count);
    if (transposed_) {
      inputs_of(begin, end, worker, floats);
    } else {
      outputs_of(begin, end, worker, floats);
    }
    if ((done_ += end - begin) == units()) rows_.reset();  // nobody else is left
    check_finite(floats, begin * unit_size());
    const std::uint64_t at = begin * unit_size() * bytes_of(to_);
    if (to_ == DType::float32) {
      out.write(name_, at, std::as_bytes(floats));
      return;
    }
    const std::span<std::byte> narrow = grow(worker.out, count * bytes_of(to_));
    convert(worker, floats.data(), DType::float32, narrow.data(), to_, count);
    check_overflow(worker, "layer " + in_quotes(layer_.name), begin * unit_size(),
                   std::as_bytes(floats), DType::float32, narrow, to_);
    out.write(name_, at, narrow);
  }

 private:
  /// Scales are finite; their products with codes may not be, and some forms have codes for NaN and
  /// infinities.
  void check_finite(std::span<const float> floats, std::uint64_t first) const {
    const auto odd = std::find_if(floats.begin(), floats.end(),
                                  [](float value) { return !std::isfinite(value); });
    if (odd == floats.end()) return;
    throw Error(ErrorCode::not_finite,
                "layer " + in_quotes(layer_.name) + ": element " +
                    std::to_string(first + static_cast<std::uint64_t>(odd - floats.begin())) +
                    (std::isnan(*odd) ? " is NaN, which is what its code in tensor " +
                                            in_quotes(layer_.tensor) + " stands for"
                                      : " is not finite when dequantized; its scale is too large"));
  }

  /// Elements of a unit.
  [[nodiscard]] std::uint64_t unit_size() const { return transposed_ ? outputs_ : inputs_; }

  /// Rows [begin, end) of [out, in].
  void outputs_of(std::uint64_t begin, std::uint64_t end, Worker& worker,
                  std::span<float> floats) const {
    const auto first = static_cast<std::int64_t>(begin);
    const auto rows = static_cast<std::int64_t>(end - begin);
    const RowDecoder::Range range = rows_->bytes_of(first, rows);
    if (!by_rows_) {
      rows_->decode({first, rows, 0, static_cast<std::int64_t>(inputs_)},
                    {staged_bytes() + range.begin, static_cast<std::size_t>(range.size)},
                    floats.data());
      return;
    }
    const std::span<std::byte> codes = grow(worker.in, range.size);
    source().read(range.begin, codes);
    rows_->decode({first, rows, 0, static_cast<std::int64_t>(inputs_)}, codes, floats.data());
  }

  /// Rows [begin, end) of [in, out].
  void inputs_of(std::uint64_t begin, std::uint64_t end, Worker& worker,
                 std::span<float> floats) const {
    const std::uint64_t cols = end - begin;
    const std::span<std::byte> block = grow(worker.out, outputs_ * cols * sizeof(float));
    auto* values = reinterpret_cast<float*>(block.data());
    const auto rows = static_cast<std::int64_t>(outputs_);
    const RowDecoder::Range range = rows_->bytes_of(0, rows);
    rows_->decode({0, rows, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(cols)},
                  {staged_bytes() + range.begin, static_cast<std::size_t>(range.size)}, values);
    transpose(values, outputs_, cols, cols, floats.data());
  }

  const Checkpoint& checkpoint_;
  StoredLayer layer_;
  std::uint64_t outputs_;
  std::uint64_t inputs_;
  std::once_flag opened_;
  std::unique_ptr<RowDecoder> rows_;
  std::atomic<std::uint64_t> done_ = 0;
  DType to_;
  bool transposed_;
  std::string name_;
  bool by_rows_;
};

}  // namespace

std::unique_ptr<TensorJob> copy_job(SourceTensor source) {
  return std::make_unique<CopyJob>(source);
}

std::unique_ptr<TensorJob> convert_job(SourceTensor source, DType to) {
  return std::make_unique<ConvertJob>(source, to);
}

std::unique_ptr<TensorJob> quantize_job(SourceTensor source, const StoredFormat& form,
                                        NewLayer layer, const QuantizeJobOptions& options) {
  return std::make_unique<QuantizeJob>(source, form, std::move(layer), options);
}

std::unique_ptr<TensorJob> scale_job(SourceTensor source, const WeightScaling& scaling, DType to,
                                     bool transposed) {
  return std::make_unique<ScaleJob>(source, scaling, to, transposed);
}

std::unique_ptr<TensorJob> dequantize_job(SourceTensor source, const Checkpoint& checkpoint,
                                          const StoredLayer& layer, DType to, bool transposed) {
  return std::make_unique<DequantizeJob>(source, checkpoint, layer, to, transposed);
}

}  // namespace kvant::io
