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

std::int64_t rows_in(const std::vector<Share>& parts) {
  std::int64_t count = 0;
  for (const Share& part : parts) count += part.size();
  return count;
}

}  // namespace

SourceTensor require_tensor(const WeightSource& source, const std::string& name,
                            const std::vector<std::uint64_t>& shape) {
  SourceTensor tensor = source.describe(name);  // throws if it is missing
  const auto text = [](const std::vector<std::uint64_t>& dimensions) {
    std::string result = "[";
    for (const std::uint64_t d : dimensions) {
      result += (result.size() > 1 ? ", " : "") + std::to_string(d);
    }
    return result + "]";
  };
  if (tensor.shape != shape) {
    throw Error(ErrorCode::shape_mismatch, "tensor \"" + name + "\" has the shape " +
                                               text(tensor.shape) + ", config.json makes it " +
                                               text(shape));
  }
  return tensor;
}

void require_no_block_beyond(const WeightSource& source, const std::string& next,
                             std::int64_t blocks) {
  if (!source.contains(next)) return;
  throw Error(ErrorCode::shape_mismatch, "config.json says " + std::to_string(blocks) +
                                             " blocks, but there is a tensor \"" + next +
                                             "\" of one more");
}

WeightMatrix load_weights(Context& context, const WeightSource& source, const std::string& name,
                          std::int64_t rows, std::int64_t cols, std::optional<DType> dtype,
                          std::vector<Share> parts) {
  const DType from =
      require_tensor(source, name,
                     {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)})
          .dtype;
  if (parts.empty()) parts = {{0, rows}};
  WeightMatrix result(rows_in(parts), cols, dtype.value_or(from));
  const std::int64_t row_bytes = cols * size_of(from);
  const std::int64_t slice =
      std::max<std::int64_t>(1, kSliceBytes / std::max<std::int64_t>(1, row_bytes));
  std::vector<std::byte> stored;
  std::int64_t to = 0;
  for (const Share& part : parts) {
    for (std::int64_t row = part.begin; row < part.end; row += slice) {
      const std::int64_t count = std::min(slice, part.end - row);
      if (from == result.dtype()) {
        source.read(name, row, count, result.row_data(to));
      } else {
        stored.resize(static_cast<std::size_t>(count * row_bytes));
        source.read(name, row, count, stored.data());
        convert(context, stored.data(), from, result.row_data(to), result.dtype(), count * cols);
      }
      to += count;
      source.release(name);
    }
  }
  return result;
}

namespace {

/// Some columns of a tensor [rows, cols], side by side, as `dtype` or as they are stored.
WeightMatrix load_columns(Context& context, const WeightSource& source, const std::string& name,
                          std::int64_t rows, std::int64_t cols, std::optional<DType> dtype,
                          const std::vector<Share>& parts) {
  const DType from =
      require_tensor(source, name,
                     {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)})
          .dtype;
  WeightMatrix result(rows, rows_in(parts), dtype.value_or(from));
  std::vector<std::byte> stored(static_cast<std::size_t>(result.cols() * size_of(from)));
  const std::int64_t slice =
      std::max<std::int64_t>(1, kSliceBytes / std::max<std::int64_t>(1, cols * size_of(from)));
  for (std::int64_t row = 0; row < rows; ++row) {
    std::byte* to = stored.data();
    for (const Share& part : parts) {
      source.read_columns(name, row, part.begin, part.size(), to);
      to += part.size() * size_of(from);
    }
    convert(context, stored.data(), from, result.row_data(row), result.dtype(), result.cols());
    if (row % slice == slice - 1) source.release(name);
  }
  source.release(name);
  return result;
}

}  // namespace

WeightMatrix load_transposed(Context& context, const WeightSource& source, const std::string& name,
                             std::int64_t rows, std::int64_t cols, std::optional<DType> dtype,
                             std::vector<Share> parts) {
  const WeightMatrix stored = parts.empty()
                                  ? load_weights(context, source, name, cols, rows, dtype)
                                  : load_columns(context, source, name, cols, rows, dtype, parts);
  rows = stored.cols();
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

WeightMatrix load_rows(const WeightSource& source, const std::string& name, std::int64_t rows,
                       std::int64_t cols, const std::vector<std::int64_t>& wanted) {
  const DType from =
      require_tensor(source, name,
                     {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)})
          .dtype;
  WeightMatrix result(static_cast<std::int64_t>(wanted.size()), cols, from);
  std::int64_t to = 0;
  for (const std::int64_t row : wanted) {
    if (row < 0 || row >= rows) {
      throw Error(ErrorCode::out_of_range, "row " + std::to_string(row) +
                                               " is wanted of tensor \"" + name + "\", which has " +
                                               std::to_string(rows) + " rows");
    }
    source.read(name, row, 1, result.row_data(to++));
  }
  source.release(name);
  return result;
}

std::vector<float> load_vector(Context& context, const WeightSource& source,
                               const std::string& name, std::int64_t size, bool round_to_bf16,
                               const std::vector<Share>& parts) {
  const DType from = require_tensor(source, name, {static_cast<std::uint64_t>(size)}).dtype;
  std::vector<std::byte> stored(static_cast<std::size_t>(size * size_of(from)));
  source.read(name, 0, 1, stored.data());
  std::vector<float> result(static_cast<std::size_t>(size));
  convert(context, stored.data(), from, result.data(), DType::float32, size);
  if (round_to_bf16) {
    for (float& value : result) value = static_cast<float>(bfloat16(value));
  }
  if (parts.empty()) return result;
  std::vector<float> wanted;
  for (const Share& part : parts) {
    wanted.insert(wanted.end(), result.begin() + part.begin, result.begin() + part.end);
  }
  return wanted;
}

}  // namespace kvant::models
