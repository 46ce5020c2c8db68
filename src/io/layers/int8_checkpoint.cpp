#include "kvant/io/int8_checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/checkpoint/linear_rules.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {
namespace {

[[noreturn]] void refuse(FormatErrorKind kind, const std::string& module, const std::string& what) {
  throw FormatError(kind, "8-bit layer " + in_quotes(module) + ": " + what);
}

std::string describe_info(const TensorInfo& info) {
  return describe_tensor(info.dtype, info.shape);
}

std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& module,
                               std::uint64_t rows) {
  const std::string name = module + ".SCB";
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) {
    refuse(FormatErrorKind::missing_scales, module,
           "its weight is I8 but there is no SCB; without scales the codes say nothing");
  }
  if (info->dtype != DType::float32 || info->shape != std::vector<std::uint64_t>{rows}) {
    refuse(FormatErrorKind::bad_scales, module,
           "SCB is " + describe_info(*info) + ", not F32 [" + std::to_string(rows) + "]");
  }
  std::vector<float> scales = checkpoint.values<float>(name);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (!(scales[i] >= 0) || std::isinf(scales[i])) {
      refuse(FormatErrorKind::bad_scales, module,
             "SCB[" + std::to_string(i) + "] is " + std::to_string(scales[i]) +
                 ", not a finite number from 0 up");
    }
  }
  return scales;
}

void check_format(const Checkpoint& checkpoint, const std::string& module) {
  const std::string name = module + ".weight_format";
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) return;  // row by row
  if (info->dtype != DType::uint8 || info->bytes != 1) {
    refuse(FormatErrorKind::weight_format, module,
           "weight_format is " + describe_info(*info) + ", not one byte");
  }
  const int format = checkpoint.values<std::uint8_t>(name).front();
  if (format != 0) {
    refuse(FormatErrorKind::weight_format, module,
           "weight_format is " + std::to_string(format) +
               ", not 0 (row by row); save it again with a current bitsandbytes");
  }
}

void read_kept(const Checkpoint& checkpoint, Int8Module& module) {
  const std::string columns_name = module.name + ".kvant_keep_columns";
  const std::string weights_name = module.name + ".kvant_keep_weights";
  const TensorInfo* columns = checkpoint.find(columns_name);
  const TensorInfo* weights = checkpoint.find(weights_name);
  if (columns == nullptr && weights == nullptr) return;
  if (columns == nullptr || weights == nullptr) {
    refuse(FormatErrorKind::structure, module.name,
           "kvant_keep_columns and kvant_keep_weights do not stand together");
  }
  if (columns->dtype != DType::int64 || columns->shape.size() != 1) {
    refuse(FormatErrorKind::structure, module.name,
           "kvant_keep_columns is " + describe_info(*columns) + ", not I64 [n]");
  }
  module.keep_columns = checkpoint.values<std::int64_t>(columns_name);
  std::int64_t last = -1;
  for (const std::int64_t column : module.keep_columns) {
    if (column <= last || column >= module.codes.cols()) {
      refuse(FormatErrorKind::structure, module.name,
             "kvant_keep_columns holds " + std::to_string(column) + " after " +
                 std::to_string(last) + ", for " + std::to_string(module.codes.cols()) +
                 " input features");
    }
    last = column;
  }
  const std::vector<std::uint64_t> shape = {static_cast<std::uint64_t>(module.codes.rows()),
                                            columns->shape[0]};
  const bool half = weights->dtype == DType::float16 || weights->dtype == DType::bfloat16;
  if (!half || weights->shape != shape) {
    refuse(FormatErrorKind::structure, module.name,
           "kvant_keep_weights is " + describe_info(*weights) + ", not F16 or BF16 [" +
               std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + "]");
  }
  if (weights->dtype == DType::float16) {
    module.kept_weights = checkpoint.matrix<float16>(weights_name);
  } else {
    module.kept_weights = checkpoint.matrix<bfloat16>(weights_name);
  }
}

}  // namespace

bool is_int8_module(const Checkpoint& checkpoint, std::string_view module) {
  const TensorInfo* info = checkpoint.find(std::string(module) + ".weight");
  return info != nullptr && info->dtype == DType::int8;
}

Int8Module read_int8_module(const Checkpoint& checkpoint, const std::string& module) {
  const TensorInfo& info = *checkpoint.tensor(module + ".weight").info;
  if (info.dtype != DType::int8 || info.shape.size() != 2) {
    refuse(FormatErrorKind::structure, module,
           "its weight is " + describe_info(info) + ", not I8 [out, in]");
  }
  Int8Module result;
  result.name = module;
  result.absmax = read_scales(checkpoint, module, info.shape[0]);
  check_format(checkpoint, module);
  result.codes = checkpoint.matrix<std::int8_t>(module + ".weight");
  read_kept(checkpoint, result);
  return result;
}

std::vector<std::string> int8_modules(const Checkpoint& checkpoint) {
  std::vector<std::string> result;
  for (const TensorInfo* info : checkpoint.tensors()) {
    for (const std::string_view suffix : {".SCB", ".weight_format"}) {
      if (!info->name.ends_with(suffix)) continue;
      const std::string module = info->name.substr(0, info->name.size() - suffix.size());
      if (!is_int8_module(checkpoint, module)) {
        refuse(FormatErrorKind::missing_scales, module,
               "there is " + std::string(suffix.substr(1)) + " but no weight of I8");
      }
    }
    if (info->dtype != DType::int8) continue;
    if (const auto module = layer_of_weight(info->name)) result.emplace_back(*module);
  }
  std::sort(result.begin(), result.end());
  return result;
}

Outliers stored_outliers(const Checkpoint& checkpoint) {
  const auto it = checkpoint.metadata().find(std::string(kOutliersMetadata));
  if (it == checkpoint.metadata().end()) return Outliers::per_call;
  for (const Outliers mode : {Outliers::per_call, Outliers::per_row, Outliers::calibrated}) {
    if (it->second == to_string(mode)) return mode;
  }
  throw FormatError(FormatErrorKind::structure, "metadata " + std::string(kOutliersMetadata) +
                                                    " is " + in_quotes(it->second) +
                                                    ", not per_call, per_row or calibrated");
}

std::string_view to_string(Outliers outliers) noexcept {
  switch (outliers) {
    case Outliers::per_call: return "per_call";
    case Outliers::per_row: return "per_row";
    case Outliers::calibrated: return "calibrated";
  }
  return "per_call";
}

}  // namespace kvant::io
