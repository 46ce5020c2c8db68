#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kvant/error.hpp"
#include "kvant/models/statistics.hpp"
#include "models/calibrate/statistics_names.hpp"

namespace kvant::models {

bool StatisticsFile::is_one(const std::filesystem::path& path) {
  try {
    const io::SafeTensors file(path);
    const auto it = file.metadata().find("format");
    return it != file.metadata().end() && it->second.starts_with("kvant-statistics");
  } catch (const Error&) {
    return false;
  }
}

template <class T>
std::vector<T> StatisticsFile::values(const std::string& tensor) const {
  if (!file_.contains(tensor)) {
    throw Error(ErrorCode::invalid_file, shown_ + ": the tensor \"" + tensor + "\" is missing");
  }
  if (file_.find(tensor)->dtype != dtype_of<T>) {
    throw Error(ErrorCode::invalid_file,
                shown_ + ": " + tensor + " is " +
                    io::describe_tensor(file_.find(tensor)->dtype, file_.find(tensor)->shape));
  }
  return file_.values<T>(tensor);
}

StatisticsFile::StatisticsFile(const std::filesystem::path& path)
    : file_(path), shown_(path.string()) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_file,
                shown_ + ": " + what + "; wanted is a file that kvant calibrate wrote");
  };
  const auto& metadata = file_.metadata();
  const auto value = [&](const char* key) {
    const auto it = metadata.find(key);
    return it == metadata.end() ? std::string() : it->second;
  };
  if (value("format") != kStatisticsFormat) refuse("not a file of statistics");
  model_type_ = value("model_type");
  fingerprint_ = value("model");
  const auto threshold = nlohmann::json::parse(value("threshold"), nullptr, false);
  if (!threshold.is_number() || !(threshold.get<float>() > 0)) refuse("its threshold is missing");
  threshold_ = threshold.get<float>();
  const auto inputs = nlohmann::json::parse(value("inputs"), nullptr, false);
  if (!inputs.is_object()) refuse("its list of inputs is missing");
  for (const auto& [layer, input] : inputs.items()) {
    if (!input.is_string()) refuse("its list of inputs is damaged");
    inputs_.emplace(layer, input.get<std::string>());
  }
  if (inputs_.empty()) refuse("it knows no inputs");
  has_moments_ = !inputs_.empty() && file_.contains(inputs_.begin()->second + kMoments);
}

const std::string& StatisticsFile::input_of(const std::string& layer) const {
  const auto it = inputs_.find(layer);
  if (it == inputs_.end()) {
    throw Error(ErrorCode::invalid_file,
                shown_ + ": knows no layer \"" + layer.substr(0, 120) + "\"" +
                    (inputs_.empty() ? "" : ", but such as \"" + inputs_.begin()->first + "\"") +
                    "; it was calibrated on another model");
  }
  return it->second;
}

methods::InputStatistics StatisticsFile::statistics(const std::string& layer) const {
  const std::string& name = input_of(layer);
  const auto refuse = [&](const char* part) {
    throw Error(ErrorCode::invalid_file, shown_ + ": " + name + part + " is damaged");
  };
  methods::InputStatistics result;
  result.threshold = threshold_;
  result.min = values<float>(name + kMin);
  result.max = values<float>(name + kMax);
  result.sum_abs = values<double>(name + kSumAbs);
  result.outliers = values<std::int64_t>(name + kOutliers);
  result.histogram = values<std::int64_t>(name + kHistogram);
  const auto rows = values<std::int64_t>(name + kRows);
  const std::size_t features = result.min.size();
  if (rows.size() != 2 || rows[0] < 0 || rows[1] < 0 || rows[1] > rows[0]) refuse(kRows);
  result.rows = rows[0];
  result.outlier_rows = rows[1];
  if (result.max.size() != features) refuse(kMax);
  if (result.sum_abs.size() != features) refuse(kSumAbs);
  if (result.outliers.size() != features) refuse(kOutliers);
  if (result.histogram.size() != methods::InputStatistics::kBins) refuse(kHistogram);
  // Every element is in one bin, and none behind the largest float.
  constexpr std::int64_t kMostElements = std::int64_t{1} << 56;
  if (result.rows > kMostElements / std::max<std::int64_t>(1, result.features())) refuse(kRows);
  constexpr std::size_t kFinite = 0x7F800000u >> 20;
  std::int64_t elements = result.rows * result.features();
  for (std::size_t i = 0; i < result.histogram.size(); ++i) {
    const std::int64_t count = result.histogram[i];
    if (count < 0 || count > (i < kFinite ? elements : 0)) refuse(kHistogram);
    elements -= count;
  }
  if (elements != 0) refuse(kHistogram);
  for (std::size_t i = 0; i < features && result.rows > 0; ++i) {
    if (!std::isfinite(result.min[i]) || !(result.min[i] <= result.max[i])) refuse(kMin);
    if (!std::isfinite(result.max[i])) refuse(kMax);
    // (Summed in another order it may be larger by some last bits.)
    const double most = 1.000001 * static_cast<double>(result.rows) *
                        static_cast<double>(result.absmax(static_cast<std::int64_t>(i)));
    if (!(result.sum_abs[i] >= 0) || result.sum_abs[i] > most) refuse(kSumAbs);
    if (result.outliers[i] < 0 || result.outliers[i] > result.rows) refuse(kOutliers);
  }
  return result;
}

methods::GramMatrix StatisticsFile::moments(const std::string& layer) const {
  const std::string& name = input_of(layer);
  if (!file_.contains(name + kMoments)) {
    throw Error(ErrorCode::invalid_argument, shown_ + ": holds no second moments of \"" + name +
                                                 "\"; calibrate without --no-moments");
  }
  const auto rows = values<std::int64_t>(name + kRows);
  const io::TensorInfo& info = *file_.find(name + kMoments);
  const auto features = values<float>(name + kMin).size();
  if (info.shape != std::vector<std::uint64_t>{features, features} || rows.empty()) {
    throw Error(ErrorCode::invalid_file, shown_ + ": " + name + kMoments + " is " +
                                             io::describe_tensor(info.dtype, info.shape) +
                                             ", the input has " + std::to_string(features) +
                                             " features");
  }
  if (rows[0] < 0) {
    throw Error(ErrorCode::invalid_file, shown_ + ": " + name + kRows + " is damaged");
  }
  methods::GramMatrix result(values<float>(name + kMoments), static_cast<std::int64_t>(features),
                             rows[0]);
  file_.release(name + kMoments);
  const MatrixView<const float> sums = result.sums();
  for (std::int64_t i = 0; i < sums.rows(); ++i) {
    bool good = sums(i, i) >= 0;
    for (std::int64_t j = 0; j < i; ++j) good = good && sums(i, j) == sums(j, i);
    if (good && std::isfinite(sums(i, i))) continue;
    throw Error(ErrorCode::invalid_file, shown_ + ": " + name + kMoments + " is damaged: row " +
                                             std::to_string(i) + " is not of a sum of squares");
  }
  return result;
}

}  // namespace kvant::models
