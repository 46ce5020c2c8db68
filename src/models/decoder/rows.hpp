#pragma once

// Rows of activations, shared out over threads, as Eigen arrays.

// Threads come from kvant's Executor, so Eigen must not start its own.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

#include "models/parallel.hpp"

namespace kvant::models {

using ArrayMap = Eigen::Map<Eigen::ArrayXf>;
using ConstArrayMap = Eigen::Map<const Eigen::ArrayXf>;

/// Rows of activations per task of the element-wise functions.
inline constexpr std::int64_t kRowsPerTask = 16;
/// What an exponential costs, in multiplications.
inline constexpr std::int64_t kExpCost = 8;

/// function(begin, end) for blocks of rows.
template <class Function>
void by_rows(Context& context, std::int64_t rows, std::int64_t operations, Function&& function) {
  parallel_tasks(context, (rows + kRowsPerTask - 1) / kRowsPerTask, operations,
                 [&](std::int64_t task) {
                   const std::int64_t first = task * kRowsPerTask;
                   function(first, std::min(rows, first + kRowsPerTask));
                 });
}

}  // namespace kvant::models
