#pragma once

// The elements of tensors, wherever they are in a file: at any alignment, of any type.

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// Finds a tensor by its name: info == nullptr where there is none.
using FindTensor = std::function<TensorView(const std::string&)>;

/// Elements of any floating-point type to float.
/// @throws Error unsupported: a type that is only listed
KVANT_API void widen(const std::byte* from, DType dtype, std::int64_t count, float* to);

/// A tensor's elements, whose type must be T.
template <class T>
std::vector<T> values_of(const TensorView& view) {
  std::vector<T> values(view.data.size() / sizeof(T));
  if (!values.empty()) {
    std::memcpy(static_cast<void*>(values.data()), view.data.data(), values.size() * sizeof(T));
  }
  return values;
}

/// What numbers of a tensor are odd.
struct OddValues {
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
  std::uint64_t negative = 0;
  [[nodiscard]] bool finite() const noexcept { return nan == 0 && infinite == 0; }
  /// "1 NaN and 2 infinite"
  [[nodiscard]] KVANT_API std::string text() const;
};

/// NaN, infinities and negative values of a floating-point tensor; zeros for other types.
[[nodiscard]] KVANT_API OddValues count_odd(const TensorView& view);

}  // namespace kvant::io
