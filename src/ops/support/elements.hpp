#pragma once

// Single elements of matrices whose type is known at run time.

#include <cstdint>

#include "kvant/float_element.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::detail {

inline float load_float(const ConstAnyMatrix& m, std::int64_t row, std::int64_t col) noexcept {
  return load_element(m.data, m.dtype, row * m.stride + col);
}
inline void store_float(const AnyMatrix& m, std::int64_t row, std::int64_t col,
                        float value) noexcept {
  store_element(m.data, m.dtype, row * m.stride + col, value);
}

}  // namespace kvant::detail
