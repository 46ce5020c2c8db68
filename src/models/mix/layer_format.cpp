#include "kvant/models/layer_format.hpp"

#include <algorithm>
#include <charconv>

namespace kvant::models {
namespace {

constexpr std::int64_t kUnit = 32;            // groups are multiples of it
constexpr std::int64_t kLongest = 1 << 20;    // of a row's groups
constexpr std::int64_t kLongestBlock = 4096;  // bitsandbytes'

}  // namespace

bool takes_groups(WeightFormat format) noexcept {
  const WeightFormatInfo& info = describe(format);
  return !info.is_gguf() && info.block != 0 && format != WeightFormat::mxfp4 &&
         format != WeightFormat::fp8_block;
}

bool is_group_of(WeightFormat format, std::int64_t group) noexcept {
  if (!takes_groups(format)) return group == 0;
  if (group < kUnit || group % kUnit != 0 || group > kLongest) return false;
  if (describe(format).axis != BlockAxis::flattened) return true;
  return group <= kLongestBlock && (group & (group - 1)) == 0;
}

std::string to_string(LayerFormat format) {
  std::string name(to_string(format.format));
  if (format.group != 0) name += ":" + std::to_string(format.group);
  return name;
}

std::optional<LayerFormat> layer_format_from_name(std::string_view name) {
  const std::size_t colon = name.find(':');
  const auto format = weight_format_from_name(name.substr(0, colon));
  // (GGUF's blocks of 256 do not divide the rows of many models.)
  if (!format || describe(*format).gguf_elements > kUnit) return std::nullopt;
  LayerFormat result{*format, takes_groups(*format) ? describe(*format).block : 0};
  if (colon == std::string_view::npos) return result;
  const std::string_view digits = name.substr(colon + 1);
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, result.group);
  if (error != std::errc() || rest != end || result.group == 0) return std::nullopt;
  if (!is_group_of(*format, result.group)) return std::nullopt;
  return result;
}

const std::vector<LayerFormat>& default_mix_formats() {
  // (What nf4's error says of it is not comparable with int4's, so that it is not among them.)
  static const std::vector<LayerFormat> formats = {
      {WeightFormat::int2_group, 64},  {WeightFormat::int3_group, 128},
      {WeightFormat::int3_group, 64},  {WeightFormat::int3_group, 32},
      {WeightFormat::int4_group, 128}, {WeightFormat::int4_group, 64},
      {WeightFormat::int4_group, 32},  {WeightFormat::q4_1, 0},
      {WeightFormat::q5_0, 0},         {WeightFormat::int8_group, 128},
      {WeightFormat::float16, 0}};
  return formats;
}

std::uint64_t bytes_of(LayerFormat format, std::int64_t outputs, std::int64_t inputs) noexcept {
  const WeightFormatInfo& info = describe(format.format);
  const auto whole_bytes = [](std::uint64_t bits) { return (bits + 7) / 8; };
  const auto elements = static_cast<std::uint64_t>(outputs) * static_cast<std::uint64_t>(inputs);
  if (info.is_gguf()) {
    return (elements + static_cast<std::uint64_t>(info.gguf_elements) - 1) /
           static_cast<std::uint64_t>(info.gguf_elements) *
           static_cast<std::uint64_t>(info.gguf_bytes);
  }
  const auto bits = static_cast<std::uint64_t>(info.bits);
  const std::int64_t block = format.group != 0 ? format.group : info.block;
  const std::int64_t scale_rows = (outputs + info.block_rows - 1) / info.block_rows;
  const auto scales = static_cast<std::uint64_t>(info.scales(scale_rows, inputs, block));
  const auto scale_bits = static_cast<std::uint64_t>(describe(info.scale).bits);
  return whole_bytes(elements * bits) + whole_bytes(scales * scale_bits) +
         (info.zero_points ? whole_bytes(scales * bits) : 0);
}

}  // namespace kvant::models
