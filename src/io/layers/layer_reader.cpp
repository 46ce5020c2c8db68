#include "io/layers/layer_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/visit_dtype.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kBlockElements = 1 << 18;
constexpr float kInverse127 = 1.0f / 127.0f;
constexpr std::int64_t kChunk = 1024;  // elements that are copied before they are converted

/// Elements of any floating-point type at any alignment to float.
void widen(const std::byte* from, DType dtype, std::int64_t count, float* to) {
  if (dtype == DType::float32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (requires(T value) { static_cast<float>(value); }) {
      std::array<T, kChunk> chunk{};
      for (std::int64_t i = 0; i < count; i += kChunk) {
        const std::int64_t n = std::min(kChunk, count - i);
        std::memcpy(static_cast<void*>(chunk.data()),
                    from + i * static_cast<std::int64_t>(sizeof(T)),
                    static_cast<std::size_t>(n) * sizeof(T));
        for (std::int64_t k = 0; k < n; ++k) {
          to[i + k] = static_cast<float>(chunk[static_cast<std::size_t>(k)]);
        }
      }
    } else {
      throw Error(ErrorCode::unsupported, "weights of type " + std::string(to_string(dtype)));
    }
  });
}

}  // namespace

std::int64_t rows_per_block(const StoredLayer& layer) noexcept {
  return std::max<std::int64_t>(1, kBlockElements / std::max<std::int64_t>(1, layer.inputs));
}

LayerReader::LayerReader(const Checkpoint& checkpoint, const StoredLayer& layer) : layer_(layer) {
  data_ = checkpoint.tensor(layer.name + ".weight").data;
  if (layer.form == StoredForm::int8) {
    int8_ = read_int8_module(checkpoint, layer.name);
  } else if (layer.form != StoredForm::floating) {
    load_4bit(checkpoint);
  }
}

std::vector<float> LayerReader::floats(const Checkpoint& checkpoint, const std::string& name,
                                       std::uint64_t count) const {
  std::vector<float> values = checkpoint.values<float>(name);
  if (values.size() != count) {
    throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(name) + " has " +
                                                 std::to_string(values.size()) + " elements, " +
                                                 std::to_string(count) + " are needed");
  }
  return values;
}

void LayerReader::load_4bit(const Checkpoint& checkpoint) {
  const std::string weight = layer_.name + ".weight";
  const auto view = [&](const std::string& name) {
    return checkpoint.contains(name) ? checkpoint.tensor(name) : TensorView{};
  };
  state_ = find_quant_state(weight, view);
  if (!state_) throw FormatError(FormatErrorKind::structure, weight + ": no quant_state");
  if (data_.size() < (state_->elements() + 1) / 2) {
    throw FormatError(FormatErrorKind::size,
                      "tensor " + in_quotes(weight) + " has " + std::to_string(data_.size()) +
                          " bytes, too few for " + std::to_string(state_->elements()) + " codes");
  }
  table_ = floats(checkpoint, weight + ".quant_map", 16);
  if (!state_->nested) {
    scales_ = floats(checkpoint, weight + ".absmax", state_->blocks());
    return;
  }
  // Double quantization: the scales are 8-bit codes with scales of their own.
  const std::vector<std::uint8_t> codes = checkpoint.values<std::uint8_t>(weight + ".absmax");
  const auto block = static_cast<std::uint64_t>(state_->nested_blocksize);
  const std::vector<float> map = floats(checkpoint, weight + ".nested_quant_map", 256);
  const std::vector<float> absmax =
      floats(checkpoint, weight + ".nested_absmax", (codes.size() + block - 1) / block);
  if (codes.size() != state_->blocks()) {
    throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(weight + ".absmax") + " has " +
                                                 std::to_string(codes.size()) + " elements for " +
                                                 std::to_string(state_->blocks()) + " blocks");
  }
  scales_.resize(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    scales_[i] = map[codes[i]] * absmax[i / block] + state_->nested_offset;
  }
}

void LayerReader::read(std::int64_t first, std::int64_t count, float* out) const {
  if (layer_.form == StoredForm::int8) {
    read_int8(first, count, out);
  } else if (layer_.form != StoredForm::floating) {
    read_4bit(first, count, out);
  } else if (layer_.transposed) {
    read_transposed(first, count, out);
  } else {
    read_floating(first, count, out);
  }
}

void LayerReader::read_floating(std::int64_t first, std::int64_t count, float* out) const {
  const std::int64_t size = describe(layer_.dtype).bits / 8;
  widen(data_.data() + first * layer_.inputs * size, layer_.dtype, count * layer_.inputs, out);
}

void LayerReader::read_transposed(std::int64_t first, std::int64_t count, float* out) const {
  const std::int64_t size = describe(layer_.dtype).bits / 8;
  std::vector<float> column(static_cast<std::size_t>(count));
  for (std::int64_t k = 0; k < layer_.inputs; ++k) {
    widen(data_.data() + (k * layer_.outputs + first) * size, layer_.dtype, count, column.data());
    for (std::int64_t r = 0; r < count; ++r) {
      out[r * layer_.inputs + k] = column[static_cast<std::size_t>(r)];
    }
  }
}

void LayerReader::read_int8(std::int64_t first, std::int64_t count, float* out) const {
  for (std::int64_t r = 0; r < count; ++r) {
    // In the order of Int8Linear::dequantize.
    const float absmax = int8_.absmax[static_cast<std::size_t>(first + r)];
    const std::int8_t* row = int8_.codes.row_data(first + r);
    float* to = out + r * layer_.inputs;
    for (std::int64_t k = 0; k < layer_.inputs; ++k) {
      to[k] = static_cast<float>(row[k]) * absmax * kInverse127;
    }
  }
  const auto keep = static_cast<std::int64_t>(int8_.keep_columns.size());
  if (keep == 0) return;
  const ConstAnyMatrix& kept = int8_.kept_weights;
  const std::int64_t size = describe(kept.dtype).bits / 8;
  std::vector<float> values(static_cast<std::size_t>(keep));
  for (std::int64_t r = 0; r < count; ++r) {
    const auto* row = static_cast<const std::byte*>(kept.data) + (first + r) * kept.stride * size;
    widen(row, kept.dtype, keep, values.data());
    for (std::int64_t i = 0; i < keep; ++i) {
      const auto at = static_cast<std::size_t>(i);
      out[r * layer_.inputs + int8_.keep_columns[at]] = values[at];
    }
  }
}

void LayerReader::read_4bit(std::int64_t first, std::int64_t count, float* out) const {
  const std::int64_t begin = first * layer_.inputs;
  for (std::int64_t i = 0; i < count * layer_.inputs; ++i) {
    const std::int64_t at = begin + i;  // in the flattened weight; the high nibble comes first
    const auto byte = std::to_integer<unsigned>(data_[static_cast<std::size_t>(at / 2)]);
    const unsigned code = at % 2 == 0 ? byte >> 4 : byte & 15u;
    out[i] = table_[code] * scales_[static_cast<std::size_t>(at / state_->blocksize)];
  }
  // Dequantized weights have the type that the weights had.
  if (state_->dtype == DType::float16) {
    for (std::int64_t i = 0; i < count * layer_.inputs; ++i) {
      out[i] = static_cast<float>(float16(out[i]));
    }
  } else if (state_->dtype == DType::bfloat16) {
    for (std::int64_t i = 0; i < count * layer_.inputs; ++i) {
      out[i] = static_cast<float>(bfloat16(out[i]));
    }
  }
}

}  // namespace kvant::io
