#pragma once

// What the tensors of a file of statistics are called, behind an input's name.

#include <string_view>

namespace kvant::models {

inline constexpr const char* kMin = ".min";
inline constexpr const char* kMax = ".max";
inline constexpr const char* kSumAbs = ".sum_abs";
inline constexpr const char* kOutliers = ".outliers";
inline constexpr const char* kHistogram = ".histogram";
inline constexpr const char* kRows = ".rows";
inline constexpr const char* kMoments = ".moments";
inline constexpr std::string_view kStatisticsFormat = "kvant-statistics-1";

}  // namespace kvant::models
