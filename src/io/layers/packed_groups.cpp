#include "io/layers/packed_groups.hpp"

#include <algorithm>
#include <cmath>

#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

[[noreturn]] void refuse(FormatErrorKind kind, const std::string& what) {
  throw FormatError(kind, what);
}

bool is_matrix(const TensorInfo& info) {
  return is_weight_matrix(info);
}

const TensorInfo& need(const FindTensor& find, const std::string& layer, const char* suffix) {
  const TensorView view = find(layer + suffix);
  if (view.info == nullptr) {
    refuse(FormatErrorKind::missing_scales,
           "layer " + in_quotes(layer) + " has " + std::string(kPackedCodes.substr(1)) +
               ", but the tensor " + in_quotes(layer + suffix) + " is missing");
  }
  return *view.info;
}

std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

[[noreturn]] void refuse_index(const TensorInfo& index, const std::string& what) {
  throw FormatError(FormatErrorKind::bad_scales, "tensor " + in_quotes(index.name) + what);
}

PackedGroups gptq_shape(const TensorInfo& weight, const TensorInfo& zeros,
                        const TensorInfo& scales) {
  PackedGroups shape{.packing = GroupPacking::gptq};
  shape.groups = static_cast<std::int64_t>(scales.shape[0]);
  shape.outputs = static_cast<std::int64_t>(scales.shape[1]);
  const auto words = static_cast<std::int64_t>(weight.shape[0]);
  const auto zero_words = static_cast<std::int64_t>(zeros.shape[1]);
  if (static_cast<std::int64_t>(weight.shape[1]) != shape.outputs) {
    refuse(FormatErrorKind::size, described(weight) + "; the scales " + in_quotes(scales.name) +
                                      " are of " + std::to_string(shape.outputs) + " outputs");
  }
  const std::int64_t zero_bits = zero_words * 32;
  shape.bits = zero_bits % shape.outputs == 0 && zero_bits / shape.outputs <= 8
                   ? static_cast<int>(zero_bits / shape.outputs)
                   : 0;
  if (shape.bits != 2 && shape.bits != 3 && shape.bits != 4 && shape.bits != 8) {
    refuse(FormatErrorKind::size, described(zeros) + ": " + std::to_string(zero_words) +
                                      " words do not hold " + std::to_string(shape.outputs) +
                                      " zero points of 2, 3, 4 or 8 bits");
  }
  if (words % (shape.bits == 3 ? 3 : 1) != 0) {
    refuse(FormatErrorKind::size, described(weight) + ": codes of 3 bits come in 3 words for 32");
  }
  shape.inputs = words * 32 / shape.bits;
  if (static_cast<std::int64_t>(zeros.shape[0]) != shape.groups) {
    refuse(FormatErrorKind::size, described(zeros) + "; the scales " + in_quotes(scales.name) +
                                      " are of " + std::to_string(shape.groups) + " groups");
  }
  return shape;
}

PackedGroups gemm_shape(const TensorInfo& weight, const TensorInfo& zeros,
                        const TensorInfo& scales) {
  PackedGroups shape{.packing = GroupPacking::awq_gemm};
  shape.inputs = static_cast<std::int64_t>(weight.shape[0]);
  shape.outputs = static_cast<std::int64_t>(weight.shape[1]) * 8;
  shape.groups = static_cast<std::int64_t>(scales.shape[0]);
  if (static_cast<std::int64_t>(scales.shape[1]) != shape.outputs) {
    refuse(FormatErrorKind::size, described(scales) + "; " + in_quotes(weight.name) + " is of " +
                                      std::to_string(shape.outputs) + " outputs");
  }
  if (static_cast<std::int64_t>(zeros.shape[0]) != shape.groups ||
      static_cast<std::int64_t>(zeros.shape[1]) != shape.outputs / 8) {
    refuse(FormatErrorKind::size, described(zeros) + ", not " +
                                      shape_text(shape.groups, shape.outputs / 8) +
                                      ": 8 zero points a word");
  }
  return shape;
}

PackedGroups gemv_shape(const TensorInfo& weight, const TensorInfo& zeros, const TensorInfo& scales,
                        std::int64_t groups) {
  PackedGroups shape{.packing = GroupPacking::awq_gemv};
  shape.outputs = static_cast<std::int64_t>(weight.shape[0]);
  shape.inputs = static_cast<std::int64_t>(weight.shape[1]) * 8;
  const auto room = static_cast<std::int64_t>(scales.shape[1]);
  shape.groups = groups != 0 ? groups : room;
  const bool fits = static_cast<std::int64_t>(scales.shape[0]) == shape.outputs &&
                    static_cast<std::int64_t>(zeros.shape[0]) == shape.outputs &&
                    static_cast<std::int64_t>(zeros.shape[1]) * 8 == room;
  if (!fits || shape.groups > room) {
    refuse(FormatErrorKind::size, described(scales) + " and " + described(zeros) + "; " +
                                      in_quotes(weight.name) + " is of " +
                                      std::to_string(shape.outputs) + " outputs in " +
                                      std::to_string(shape.groups) + " groups");
  }
  return shape;
}

}  // namespace

GroupPacking group_packing_of(const FindTensor& find, const TensorInfo& weight,
                              const std::string& layer) {
  const TensorView scales = find(layer + kGroupScales);
  if (find(layer + kGroupIndex).info != nullptr || scales.info == nullptr ||
      !is_matrix(*scales.info) || !is_matrix(weight)) {
    return GroupPacking::gptq;
  }
  // gptq's and gemm's have a row for each group, and fewer groups than rows of words.
  if (weight.shape[0] == scales.info->shape[0]) return GroupPacking::awq_gemv;
  return weight.shape[1] * 8 == scales.info->shape[1] ? GroupPacking::awq_gemm : GroupPacking::gptq;
}

PackedGroups packed_groups_of(const FindTensor& find, const TensorInfo& weight,
                              const std::string& layer, GroupPacking packing, std::int64_t groups) {
  const TensorInfo& zeros = need(find, layer, kPackedZeros);
  const TensorInfo& scales = need(find, layer, kGroupScales);
  for (const TensorInfo* info : {&weight, &zeros}) {
    if (info->dtype != DType::int32 || !is_matrix(*info)) {
      refuse(FormatErrorKind::size, described(*info) + ", not a matrix of I32 words");
    }
  }
  const bool known = scales.dtype == DType::float16 || scales.dtype == DType::bfloat16 ||
                     scales.dtype == DType::float32;
  if (!known || !is_matrix(scales)) {
    refuse(FormatErrorKind::bad_scales, described(scales) + ", not a matrix of F16, BF16 or F32");
  }
  switch (packing) {
    case GroupPacking::awq_gemm: return gemm_shape(weight, zeros, scales);
    case GroupPacking::awq_gemv: return gemv_shape(weight, zeros, scales, groups);
    case GroupPacking::gptq:
    case GroupPacking::by_rows: break;
  }
  return gptq_shape(weight, zeros, scales);
}

GroupValues read_group_values(const FindTensor& find, const std::string& layer,
                              const PackedGroups& shape) {
  const TensorView scales = find(layer + kGroupScales);
  const TensorView zeros = find(layer + kPackedZeros);
  const std::int64_t groups = shape.groups;
  const std::int64_t outputs = shape.outputs;
  std::vector<float> stored(
      static_cast<std::size_t>(scales.info->shape[0] * scales.info->shape[1]));
  widen(scales.data.data(), scales.info->dtype, static_cast<std::int64_t>(stored.size()),
        stored.data());
  const bool gemv = shape.packing == GroupPacking::awq_gemv;
  const auto words = static_cast<std::int64_t>(zeros.info->shape[1]);
  GroupValues values;
  values.scales.resize(static_cast<std::size_t>(groups * outputs));
  values.zeros.resize(values.scales.size());
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t n = 0; n < outputs; ++n) {
      const auto at = static_cast<std::size_t>(g * outputs + n);
      const auto from =
          gemv ? n * static_cast<std::int64_t>(scales.info->shape[1]) + g : g * outputs + n;
      const float scale = stored[static_cast<std::size_t>(from)];
      if (!(scale > 0) || !std::isfinite(scale)) {
        refuse(FormatErrorKind::bad_scales,
               "tensor " + in_quotes(scales.info->name) + " holds " + std::to_string(scale) +
                   " for group " + std::to_string(g) + " of output " + std::to_string(n) +
                   ", not a finite number above 0");
      }
      values.scales[at] = scale;
      unsigned zero = 0;
      switch (shape.packing) {
        case GroupPacking::gptq:
          zero = packed_field(zeros.data, g * words, 1, n, shape.bits);
          break;
        case GroupPacking::awq_gemm: zero = awq_field(zeros.data, g * words, n); break;
        case GroupPacking::awq_gemv: zero = packed_field(zeros.data, n * words, 1, g, 4); break;
        case GroupPacking::by_rows: break;  // of compressed-tensors, which reads its own
      }
      values.zeros[at] = static_cast<std::uint16_t>(zero);
    }
  }
  return values;
}

std::vector<std::int32_t> read_group_index(const TensorView& index, const PackedGroups& shape) {
  const TensorInfo& info = *index.info;
  if (info.dtype != DType::int32 ||
      info.shape != std::vector<std::uint64_t>{static_cast<std::uint64_t>(shape.inputs)}) {
    refuse_index(info, " is " + describe_tensor(info.dtype, info.shape) + ", not I32 [" +
                           std::to_string(shape.inputs) + "]: the group of each input");
  }
  std::vector<std::int32_t> groups = values_of<std::int32_t>(index);
  std::vector<bool> used(static_cast<std::size_t>(shape.groups));
  for (std::size_t k = 0; k < groups.size(); ++k) {
    if (groups[k] < 0 || groups[k] >= shape.groups) {
      refuse_index(info, " says that input " + std::to_string(k) + " is in group " +
                             std::to_string(groups[k]) + " of " + std::to_string(shape.groups));
    }
    used[static_cast<std::size_t>(groups[k])] = true;
  }
  if (const auto unused = std::find(used.begin(), used.end(), false); unused != used.end()) {
    refuse_index(info, " has no input in group " + std::to_string(unused - used.begin()) + " of " +
                           std::to_string(shape.groups));
  }
  return groups;
}

std::vector<std::int32_t> groups_of_neighbours(std::int64_t inputs, std::int64_t size) {
  std::vector<std::int32_t> groups(static_cast<std::size_t>(inputs));
  for (std::size_t k = 0; k < groups.size(); ++k) {
    groups[k] = static_cast<std::int32_t>(static_cast<std::int64_t>(k) / size);
  }
  return groups;
}

WeightFormat group_format(int bits) noexcept {
  switch (bits) {
    case 2: return WeightFormat::int2_group;
    case 3: return WeightFormat::int3_group;
    case 8: return WeightFormat::int8_group;
    default: return WeightFormat::int4_group;
  }
}

StoredLayer packed_groups_layer(const PackedGroups& shape, const TensorInfo& weight) {
  StoredLayer layer = start_layer(weight, group_format(shape.bits), kPackedCodes);
  layer.outputs = shape.outputs;
  layer.inputs = shape.inputs;
  return layer;
}

void verify_group_scales(const TensorView& part, Findings& findings) {
  const TensorInfo& info = *part.info;
  if (describe(info.dtype).kind != DTypeKind::floating || describe(info.dtype).bits % 8 != 0) {
    findings.push_back({Severity::error, "scale", described(info) + "; scales are F16 or BF16"});
    return;
  }
  const OddValues odd = count_odd(part);
  if (!odd.finite()) {
    findings.push_back({Severity::error, "scale",
                        "tensor " + in_quotes(info.name) + " holds scales that are " + odd.text()});
  }
}

}  // namespace kvant::io
