#pragma once

// The choice itself: figures in, chosen forms out.

#include <vector>

#include "kvant/look/select.hpp"

namespace kvant::look {

/// 10 log10(signal / error); +inf where the error is 0.
[[nodiscard]] double sqnr_of(double signal, double squared_error) noexcept;

/// Sorted from small to large, without those that another beats in bytes and error, and without
/// those whose error is not a number (a weight beyond the type's range).
[[nodiscard]] std::vector<SchemeChoice> undominated(std::vector<SchemeChoice> choices);

/// Sets LayerPlan::chosen of all layers by plan.budget.
/// @throws Error invalid_argument: the smallest plan is above a budget of bytes
void choose(SchemePlan& plan);

}  // namespace kvant::look
