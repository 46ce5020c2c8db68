#include "io/layers/compressed_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw FormatError(FormatErrorKind::bad_scales, what);
}

/// The only element of a tensor.
float number_in(const TensorView& tensor, bool is_code) {
  const std::string named = "tensor " + in_quotes(tensor.info->name);
  std::uint64_t count = 1;
  for (const std::uint64_t size : tensor.info->shape) count *= std::min<std::uint64_t>(size, 2);
  if (count != 1) {
    refuse(named +
           " is one number for a layer's activations in int8; scales of groups of features are not "
           "read");
  }
  const DType dtype = tensor.info->dtype;
  if (is_code && dtype == DType::int8) {
    return static_cast<float>(static_cast<std::int8_t>(tensor.data[0]));
  }
  if (dtype != DType::float32 && dtype != DType::float16 && dtype != DType::bfloat16) {
    refuse(named + " is " + std::string(to_string(dtype)) +
           "; F32, F16 and BF16 (zero points: I8) are read");
  }
  float number = 0;
  widen(tensor.data.data(), dtype, 1, &number);
  return number;
}

}  // namespace

std::optional<QuantParams> compressed_inputs(const FindTensor& find, const StoredLayer& layer,
                                             InputScales said) {
  if (said == InputScales::at_run || layer.dtype != DType::int8) return std::nullopt;
  const TensorView scale = find(layer.name + kInputScale);
  if (scale.info == nullptr) {
    if (said == InputScales::unsaid || said == InputScales::unclear) return std::nullopt;
    refuse("layer " + in_quotes(layer.name) +
           ": config.json says that the scale of its activations is known (input_activations, "
           "dynamic false), but there is no tensor " +
           in_quotes(layer.name + kInputScale));
  }
  if (said == InputScales::unclear || said == InputScales::other) {
    refuse(
        "layer " + in_quotes(layer.name) + " has " + in_quotes(scale.info->name) +
        (said == InputScales::unclear
             ? ", and config_groups of config.json differ in input_activations: whether it holds "
               "for this layer is not clear"
             : ", and config.json's input_activations are not int8 with one scale (num_bits 8, "
               "type int, strategy tensor, dynamic false), which alone is read"));
  }
  QuantParams params;
  params.scheme = int8_affine.with_order(RoundOrder::divide);
  params.scale = {number_in(scale, false)};
  if (!(params.scale[0] > 0) || std::isinf(params.scale[0])) {
    refuse("tensor " + in_quotes(scale.info->name) + " is " + std::to_string(params.scale[0]) +
           ", not a number above 0");
  }
  if (const TensorView zero = find(layer.name + kInputZeroPoint); zero.info != nullptr) {
    const float code = number_in(zero, true);
    if (!(code >= -128 && code <= 127) || code != std::trunc(code)) {
      refuse("tensor " + in_quotes(zero.info->name) + " is " + std::to_string(code) +
             ", not an int8");
    }
    params.zero_point = {static_cast<std::int32_t>(code)};
  }
  return params;
}

}  // namespace kvant::io
