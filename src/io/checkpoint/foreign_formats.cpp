#include "io/checkpoint/foreign_formats.hpp"

#include <algorithm>
#include <set>
#include <string_view>

#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

bool is_own_method(std::string_view method) {
  const auto forms = stored_formats();
  return std::any_of(forms.begin(), forms.end(), [&](const StoredFormat* form) {
    return !form->quant_method().empty() && form->quant_method() == method;
  });
}

std::string_view before(std::string_view name, std::string_view ending) {
  return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : std::string_view();
}

constexpr std::string_view kNvfp4 = "compressed-tensors (nvfp4)";

/// The method whose form a tensor has; "" : none.
std::string_view method_of(const TensorInfo& info, const std::set<std::string_view>& names) {
  const auto has = [&](std::string_view layer, std::string_view suffix) {
    return names.contains(std::string(layer) + std::string(suffix));
  };
  const std::string_view name = info.name;
  // Words of 32 bits are GPTQ's or AWQ's, of which kvant has forms.
  if (!before(name, ".qweight").empty() && info.dtype == DType::int16) return "awq (gemv_fast)";
  // Of compressed-tensors', what is not read: its scales have a scale.
  if (const auto layer = before(name, ".weight_packed");
      !layer.empty() && has(layer, ".weight_global_scale")) {
    return kNvfp4;
  }
  if (const auto layer = before(name, "_blocks"); !layer.empty() && info.dtype == DType::uint8) {
    if (has(layer, "_scales")) return "mxfp4";
  }
  const auto layer = before(name, kWeightSuffix);
  if (layer.empty()) return {};
  if (info.dtype == DType::float8_e4m3fn) return {};  // with or without scales it is read
  if (has(layer, ".weight_scale_inv")) return "fp8";
  if (info.dtype == DType::uint32 && has(layer, ".scales")) return "mlx";
  const bool eight_bits = describe(info.dtype).bits == 8;
  const bool floating = describe(info.dtype).kind == DTypeKind::floating;
  if (eight_bits && floating && has(layer, ".weight_scale")) return "fp8";
  return {};
}

}  // namespace

std::optional<std::string> foreign_quantization(const ModelHints& hints,
                                                const std::vector<const TensorInfo*>& tensors) {
  const bool named = hints.quant_method && !hints.quant_method->empty();
  if (named && !is_own_method(*hints.quant_method)) {
    return *hints.quant_method + " (config.json)";
  }
  std::set<std::string_view> names;
  for (const TensorInfo* info : tensors) names.insert(info->name);
  for (const TensorInfo* info : tensors) {
    const std::string_view method = method_of(*info, names);
    if (method.empty() || (named && method != kNvfp4)) continue;
    return std::string(method) + " (tensor " + in_quotes(info->name) + ")";
  }
  return std::nullopt;
}

}  // namespace kvant::io
