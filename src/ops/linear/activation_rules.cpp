// ActivationOptions become rules: checked, owned, and where the kernels are.

#include <limits>

#include "kvant/core/activation_checks.hpp"
#include "ops/linear/activations.hpp"
#include "ops/support/device_data.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {

namespace {

/// The same codes in the other half of the types' ranges. (Zero points are added behind the
/// rounding, so that nothing else changes; check_static_params has seen to that.)
QuantParams moved(const QuantParams& params, bool is_unsigned) {
  QuantParams result = params;
  QuantScheme& scheme = result.scheme;
  const std::int32_t by = (is_unsigned ? 128 : 0) - (scheme.dtype == DType::uint8 ? 128 : 0);
  if (by == 0) return result;
  if (params.order() != RoundOrder::divide) scheme = scheme.with_order(RoundOrder::kvant);
  scheme.dtype = is_unsigned ? DType::uint8 : DType::int8;
  scheme.lowest += by;
  scheme.highest += by;
  result.zero_point.resize(params.scale.size(), 0);
  for (std::int32_t& zero : result.zero_point) zero += by;
  return result;
}

}  // namespace

std::shared_ptr<const ActivationRules> ActivationRules::of(const char* who,
                                                           const ActivationOptions& options,
                                                           std::int64_t k, const Memory* memory) {
  check_activation_options(who, options, k);
  auto rules = std::make_shared<ActivationRules>();
  rules->options = options;
  rules->keep_columns.assign(options.keep_columns.begin(), options.keep_columns.end());
  rules->options.keep_columns = rules->keep_columns;
  if (options.static_params != nullptr) {
    check_static_params(who, *options.static_params, k);
    rules->static_params = *options.static_params;
    rules->options.static_params = &*rules->static_params;
    // One block of rows, whatever the batch.
    constexpr std::int64_t kRows = std::int64_t{1} << 62;
    if (k > 0) rules->static_blocks.emplace(*rules->static_params, kRows, k);
    const bool integers = activation_type(options) == DType::int8;
    for (const bool is_unsigned : {false, true}) {
      if (k == 0 || !integers) break;
      rules->code_params[is_unsigned] = moved(*rules->static_params, is_unsigned);
      rules->code_blocks[is_unsigned].emplace(rules->code_params[is_unsigned], kRows, k);
    }
  }
  if (memory != nullptr && rules->rounds_floats()) {
    fail(ErrorCode::unsupported, std::string(who) +
                                     ": static scales and 8-bit floats of "
                                     "activations are made on the CPU, not on \"" +
                                     memory->space + "\"");
  }
  if (rules->is_int15()) {  // what means nothing does not tell batches from each other
    rules->options.threshold = 0.0f;
    rules->options.outliers = Outliers::per_row;
  }
  // Products of 8-bit floats are products of floats.
  rules->options.activation_type = activation_type(options);
  if (rules->options.activation_type != DType::int8) {
    rules->options.arithmetic = Arithmetic::exact;
  }
  if (!rules->keep_columns.empty()) {
    rules->keep_mask = AlignedArray<std::int16_t>(static_cast<std::size_t>(k), std::int16_t{-1});
    for (const std::int64_t column : rules->keep_columns) {
      rules->keep_mask[static_cast<std::size_t>(column)] = 0;
    }
    rules->columns_at = rules->keep_columns.data();
    rules->mask_at = rules->keep_mask.data();
    if (memory != nullptr) {
      const std::size_t columns_bytes = rules->keep_columns.size() * sizeof(std::int64_t);
      rules->on_device = allocate_on(*memory, columns_bytes + rules->keep_mask.bytes());
      std::byte* const at = rules->on_device.get();
      copy_or_fail(*memory, at, rules->columns_at, columns_bytes, CopyKind::to_device, nullptr);
      copy_or_fail(*memory, at + columns_bytes, rules->mask_at, rules->keep_mask.bytes(),
                   CopyKind::to_device, nullptr);
      rules->columns_at = reinterpret_cast<const std::int64_t*>(at);
      rules->mask_at = reinterpret_cast<const std::int16_t*>(at + columns_bytes);
    }
  }
  return rules;
}

float ActivationRules::search_threshold() const noexcept {
  const bool search = options.threshold > 0.0f && options.outliers != Outliers::calibrated;
  return search ? options.threshold : std::numeric_limits<float>::infinity();
}

namespace {

bool same_params(const std::optional<QuantParams>& a, const std::optional<QuantParams>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->scheme.dtype == b->scheme.dtype && a->scheme.lowest == b->scheme.lowest &&
         a->scheme.highest == b->scheme.highest && a->order() == b->order() &&
         a->block == b->block && a->scale == b->scale && a->zero_point == b->zero_point &&
         a->inv_scale == b->inv_scale;
}

}  // namespace

bool ActivationRules::same_as(const ActivationRules& other) const noexcept {
  return options.threshold == other.options.threshold &&
         options.outliers == other.options.outliers &&
         options.arithmetic == other.options.arithmetic &&
         options.activation_scale == other.options.activation_scale &&
         options.activation_type == other.options.activation_type &&
         options.check_finite == other.options.check_finite && keep_columns == other.keep_columns &&
         same_params(static_params, other.static_params);
}

}  // namespace kvant::detail
