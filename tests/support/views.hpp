#pragma once

// A vector as a row-major matrix.

#include <cstdint>
#include <vector>

#include "kvant/matrix_view.hpp"

namespace kvant::test {

template <class T>
inline MatrixView<const T> view(const std::vector<T>& v, std::int64_t rows, std::int64_t cols) {
  return {v.data(), rows, cols};
}

}  // namespace kvant::test
