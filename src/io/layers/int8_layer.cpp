#include "io/layers/int8_layer.hpp"

#include <cmath>
#include <utility>

#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

using namespace int8_names;

[[noreturn]] void refuse_int8(FormatErrorKind kind, const std::string& layer,
                              const std::string& what) {
  throw FormatError(kind, "8-bit layer " + in_quotes(layer) + ": " + what);
}

namespace {

std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& layer,
                               std::uint64_t rows) {
  const std::string name = layer + kScales;
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) {
    refuse_int8(FormatErrorKind::missing_scales, layer,
                "its weight is I8 but there is no SCB; without scales the codes say nothing");
  }
  if (info->dtype != DType::float32 || info->shape != std::vector<std::uint64_t>{rows}) {
    refuse_int8(FormatErrorKind::bad_scales, layer,
                "SCB is " + type_and_shape(*info) + ", not F32 [" + std::to_string(rows) + "]");
  }
  std::vector<float> scales = checkpoint.values<float>(name);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (!(scales[i] >= 0) || std::isinf(scales[i])) {
      refuse_int8(FormatErrorKind::bad_scales, layer,
                  "SCB[" + std::to_string(i) + "] is " + std::to_string(scales[i]) +
                      ", not a finite number from 0 up");
    }
  }
  return scales;
}

void check_format(const Checkpoint& checkpoint, const std::string& layer) {
  const std::string name = layer + kFormat;
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) return;  // row by row
  if (info->dtype != DType::uint8 || info->bytes != 1) {
    refuse_int8(FormatErrorKind::weight_format, layer,
                "weight_format is " + type_and_shape(*info) + ", not one byte");
  }
  const int format = checkpoint.values<std::uint8_t>(name).front();
  if (format != 0) {
    refuse_int8(FormatErrorKind::weight_format, layer,
                "weight_format is " + std::to_string(format) +
                    ", not 0 (row by row); save it again with a current bitsandbytes");
  }
}

}  // namespace

std::vector<std::int64_t> check_kept_columns(const FindTensor& find, const std::string& layer,
                                             std::uint64_t outputs, std::uint64_t inputs) {
  const TensorView columns = find(layer + kKeptColumns);
  const TensorView weights = find(layer + kKeptWeights);
  if (columns.info == nullptr && weights.info == nullptr) return {};
  if (columns.info == nullptr || weights.info == nullptr) {
    refuse_int8(FormatErrorKind::structure, layer,
                "of kvant_keep_columns and kvant_keep_weights only one is there");
  }
  if (columns.info->dtype != DType::int64 || columns.info->shape.size() != 1) {
    refuse_int8(FormatErrorKind::structure, layer,
                "kvant_keep_columns is " + type_and_shape(*columns.info) + ", not I64 [n]");
  }
  std::vector<std::int64_t> kept = values_of<std::int64_t>(columns);
  std::int64_t last = -1;
  for (const std::int64_t column : kept) {
    if (column <= last || static_cast<std::uint64_t>(column) >= inputs) {
      refuse_int8(FormatErrorKind::structure, layer,
                  "kvant_keep_columns holds " + std::to_string(column) + " after " +
                      std::to_string(last) + ", for " + std::to_string(inputs) + " input features");
    }
    last = column;
  }
  const std::vector<std::uint64_t> shape = {outputs, columns.info->shape[0]};
  const DType dtype = weights.info->dtype;
  if ((dtype != DType::float16 && dtype != DType::bfloat16) || weights.info->shape != shape) {
    refuse_int8(FormatErrorKind::structure, layer,
                "kvant_keep_weights is " + type_and_shape(*weights.info) + ", not F16 or BF16 [" +
                    std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + "]");
  }
  return kept;
}

Int8Layer read_int8_layer(const Checkpoint& checkpoint, const std::string& layer) {
  const TensorInfo& info = *checkpoint.tensor(layer + ".weight").info;
  if (info.dtype != DType::int8 || info.shape.size() != 2) {
    refuse_int8(FormatErrorKind::structure, layer,
                "its weight is " + type_and_shape(info) + ", not I8 [out, in]");
  }
  Int8Layer result;
  result.name = layer;
  result.absmax = read_scales(checkpoint, layer, info.shape[0]);
  check_format(checkpoint, layer);
  result.codes = checkpoint.matrix<std::int8_t>(layer + ".weight");
  result.kept_columns =
      check_kept_columns(find_in(checkpoint), layer, info.shape[0], info.shape[1]);
  if (const TensorInfo* kept = checkpoint.find(layer + kKeptWeights); kept != nullptr) {
    if (kept->dtype == DType::float16) {
      result.kept_weights = checkpoint.matrix<float16>(kept->name);
    } else {
      result.kept_weights = checkpoint.matrix<bfloat16>(kept->name);
    }
  }
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
