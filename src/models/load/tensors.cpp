#include "models/load/tensors.hpp"

#include <algorithm>
#include <cstring>

#include "kvant/error.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::models {
namespace {

constexpr std::int64_t kSliceBytes = 4 << 20;

std::int64_t size_of(DType dtype) {
  return describe(dtype).bits / 8;
}

void convert(Context& context, const void* from, DType from_dtype, void* to, DType to_dtype,
             std::int64_t count) {
  context.kernels().convert({from, from_dtype, to, to_dtype, count});
}

}  // namespace

void require_tensor(const io::Checkpoint& checkpoint, const std::string& name,
                    const std::vector<std::uint64_t>& shape) {
  const io::TensorInfo& info = *checkpoint.tensor(name).info;  // throws if it is missing
  const auto text = [](const std::vector<std::uint64_t>& dimensions) {
    std::string result = "[";
    for (const std::uint64_t d : dimensions) {
      result += (result.size() > 1 ? ", " : "") + std::to_string(d);
    }
    return result + "]";
  };
  if (info.shape != shape) {
    throw Error(ErrorCode::shape_mismatch, "tensor \"" + name + "\" has the shape " +
                                               text(info.shape) + ", config.json makes it " +
                                               text(shape));
  }
  if (info.dtype != DType::float32 && info.dtype != DType::float16 &&
      info.dtype != DType::bfloat16) {
    throw Error(ErrorCode::unsupported, "tensor \"" + name + "\" is " +
                                            std::string(to_string(info.dtype)) +
                                            ", not float32, float16 or bfloat16");
  }
}

WeightMatrix load_weights(Context& context, const io::Checkpoint& checkpoint,
                          const std::string& name, std::int64_t rows, std::int64_t cols,
                          std::optional<DType> dtype) {
  require_tensor(checkpoint, name,
                 {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)});
  const io::TensorView tensor = checkpoint.tensor(name);
  const DType from = tensor.info->dtype;
  WeightMatrix result(rows, cols, dtype.value_or(from));
  const std::int64_t row_bytes = cols * size_of(from);
  const std::int64_t slice =
      std::max<std::int64_t>(1, kSliceBytes / std::max<std::int64_t>(1, row_bytes));
  std::vector<std::byte> aligned;  // the file may hold the tensor at any address
  for (std::int64_t row = 0; row < rows; row += slice) {
    const std::int64_t count = std::min(slice, rows - row);
    const std::byte* source = tensor.data.data() + row * row_bytes;
    if (from == result.dtype()) {
      std::memcpy(result.row_data(row), source, static_cast<std::size_t>(count * row_bytes));
    } else {
      aligned.assign(source, source + count * row_bytes);
      convert(context, aligned.data(), from, result.row_data(row), result.dtype(), count * cols);
    }
    checkpoint.release(name);
  }
  return result;
}

WeightMatrix load_transposed(Context& context, const io::Checkpoint& checkpoint,
                             const std::string& name, std::int64_t rows, std::int64_t cols,
                             std::optional<DType> dtype) {
  const WeightMatrix stored = load_weights(context, checkpoint, name, cols, rows, dtype);
  WeightMatrix result(rows, cols, stored.dtype());
  const auto transpose = [&]<class T>(T) {
    const auto* from = reinterpret_cast<const T*>(stored.row_data(0));
    auto* to = reinterpret_cast<T*>(result.row_data(0));
    constexpr std::int64_t kTile = 32;  // squares that stay in the first-level cache
    for (std::int64_t i = 0; i < rows; i += kTile) {
      for (std::int64_t j = 0; j < cols; j += kTile) {
        for (std::int64_t r = i; r < std::min(rows, i + kTile); ++r) {
          for (std::int64_t c = j; c < std::min(cols, j + kTile); ++c) {
            to[r * cols + c] = from[c * rows + r];
          }
        }
      }
    }
  };
  if (size_of(stored.dtype()) == 4) {
    transpose(std::uint32_t{});
  } else {
    transpose(std::uint16_t{});
  }
  return result;
}

WeightMatrix load_rows(const io::Checkpoint& checkpoint, const std::string& name, std::int64_t rows,
                       std::int64_t cols, const std::vector<std::int64_t>& wanted) {
  require_tensor(checkpoint, name,
                 {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)});
  const io::TensorView tensor = checkpoint.tensor(name);
  WeightMatrix result(static_cast<std::int64_t>(wanted.size()), cols, tensor.info->dtype);
  const std::int64_t row_bytes = cols * size_of(tensor.info->dtype);
  std::int64_t to = 0;
  for (const std::int64_t row : wanted) {
    if (row < 0 || row >= rows) {
      throw Error(ErrorCode::out_of_range, "row " + std::to_string(row) +
                                               " is wanted of tensor \"" + name + "\", which has " +
                                               std::to_string(rows) + " rows");
    }
    std::memcpy(result.row_data(to++), tensor.data.data() + row * row_bytes,
                static_cast<std::size_t>(row_bytes));
  }
  checkpoint.release(name);
  return result;
}

std::vector<float> load_vector(Context& context, const io::Checkpoint& checkpoint,
                               const std::string& name, std::int64_t size, bool round_to_bf16) {
  require_tensor(checkpoint, name, {static_cast<std::uint64_t>(size)});
  const io::TensorView tensor = checkpoint.tensor(name);
  const std::vector<std::byte> aligned(tensor.data.begin(), tensor.data.end());
  std::vector<float> result(static_cast<std::size_t>(size));
  convert(context, aligned.data(), tensor.info->dtype, result.data(), DType::float32, size);
  if (round_to_bf16) {
    for (float& value : result) value = static_cast<float>(bfloat16(value));
  }
  return result;
}

}  // namespace kvant::models
