#include "kvant/io/tensor.hpp"

#include <algorithm>
#include <optional>

#include "io/file/checked.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {

std::uint64_t tensor_bytes(std::span<const std::uint64_t> shape, DType dtype,
                           const std::string& where) {
  std::optional<std::uint64_t> total = 1;
  for (const std::uint64_t dimension : shape) {
    if (total) total = checked_mul(*total, dimension);
  }
  if (total) total = checked_mul(*total, static_cast<std::uint64_t>(describe(dtype).bits));
  if (!total) {
    throw FormatError(
        FormatErrorKind::overflow,
        where + ": the size of " + describe_tensor(dtype, shape) + " overflows 64 bits");
  }
  if (*total % 8 != 0) {
    throw FormatError(FormatErrorKind::misaligned,
                      where + ": " + describe_tensor(dtype, shape) + " is " +
                          std::to_string(*total) + " bits, which is not a whole number of bytes");
  }
  return *total / 8;
}

std::string describe_tensor(DType dtype, std::span<const std::uint64_t> shape) {
  constexpr std::size_t kShown = 8;
  std::string result(describe(dtype).safetensors);
  result += " [";
  for (std::size_t i = 0; i < std::min(shape.size(), kShown); ++i) {
    result += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  if (shape.size() > kShown) result += ", ... " + std::to_string(shape.size()) + " dimensions";
  return result + "]";
}

std::uint64_t byte_size(const TensorSpec& tensor) {
  return tensor_bytes(tensor.shape, tensor.dtype, "tensor " + in_quotes(tensor.name));
}

}  // namespace kvant::io
