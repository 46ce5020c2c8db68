// bitsandbytes' signed dynamic map of 256 values (arXiv 1511.04561 by way of arXiv 2110.02861):
// seven decades, each cut evenly. As constants: recomputing them is off in the last digits without
// fma.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "kvant/bitsandbytes.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant::bitsandbytes {
namespace {

/// Entries 128 to 254 as bits.
constexpr std::uint32_t kPositive[127] = {
    0x3513A3B7, 0x365A1A94, 0x370205FF, 0x37B24206, 0x38378034, 0x388AEFB3, 0x38BA1F4B, 0x3923D70B,
    0x398CE705, 0x39C7E283, 0x3A016F01, 0x3A1EECC1, 0x3A3C6A80, 0x3A59E83E, 0x3A7765FF, 0x3AA7EF9D,
    0x3AF1A9FC, 0x3B1DB22D, 0x3B428F5C, 0x3B676C8A, 0x3B8624DD, 0x3B989374, 0x3BAB020D, 0x3BBD70A4,
    0x3BCFDF3B, 0x3BE24DD3, 0x3BF4BC6A, 0x3C039581, 0x3C0CCCCD, 0x3C160418, 0x3C1F3B64, 0x3C3AE148,
    0x3C68F5C3, 0x3C8B851F, 0x3CA28F5D, 0x3CB9999A, 0x3CD0A3D7, 0x3CE7AE15, 0x3CFEB852, 0x3D0AE148,
    0x3D166667, 0x3D21EB85, 0x3D2D70A3, 0x3D38F5C3, 0x3D447AE1, 0x3D500000, 0x3D5B851F, 0x3D670A3D,
    0x3D728F5D, 0x3D7E147B, 0x3D84CCCD, 0x3D8A8F5D, 0x3D9051EB, 0x3D96147B, 0x3D9BD70A, 0x3DA1999A,
    0x3DA75C2A, 0x3DAD1EB8, 0x3DB2E148, 0x3DB8A3D7, 0x3DBE6667, 0x3DC428F7, 0x3DC9EB85, 0x3DDB3334,
    0x3DF80000, 0x3E0A6666, 0x3E18CCCD, 0x3E273333, 0x3E35999A, 0x3E440000, 0x3E526666, 0x3E60CCCD,
    0x3E6F3333, 0x3E7D9999, 0x3E860000, 0x3E8D3334, 0x3E946666, 0x3E9B999A, 0x3EA2CCCC, 0x3EAA0000,
    0x3EB13333, 0x3EB86666, 0x3EBF999A, 0x3EC6CCCC, 0x3ECE0000, 0x3ED53333, 0x3EDC6666, 0x3EE3999A,
    0x3EEACCCC, 0x3EF20000, 0x3EF93332, 0x3F003333, 0x3F03CCCC, 0x3F076666, 0x3F0B0000, 0x3F0E999A,
    0x3F123334, 0x3F15CCCD, 0x3F196666, 0x3F1D0000, 0x3F20999A, 0x3F243334, 0x3F27CCCD, 0x3F2B6666,
    0x3F2F0000, 0x3F32999A, 0x3F363334, 0x3F39CCCD, 0x3F3D6666, 0x3F410000, 0x3F44999A, 0x3F483333,
    0x3F4BCCCD, 0x3F4F6666, 0x3F530000, 0x3F56999A, 0x3F5A3333, 0x3F5DCCCD, 0x3F616666, 0x3F650000,
    0x3F68999A, 0x3F6C3333, 0x3F6FCCCD, 0x3F736666, 0x3F770000, 0x3F7A999A, 0x3F7E3333,
};

constexpr std::array<float, 256> kMap = [] {
  std::array<float, 256> map{};  // entry 127 is 0
  for (std::size_t i = 0; i < 127; ++i) {
    map[128 + i] = std::bit_cast<float>(kPositive[i]);
    map[126 - i] = -map[128 + i];
  }
  map[255] = 1.0f;
  return map;
}();

constexpr std::int64_t kNestedBlock = 256;

/// The nearest entry to y in -1..1 as bitsandbytes' CPU backend finds it: y is rounded to one of
/// 65536 steps first, which makes small values coarser than the map is.
std::uint8_t nearest(float y) noexcept {
  const float step = std::clamp(std::nearbyint((y + 1.0f) * 32767.5f), 0.0f, 65535.0f);
  const auto value = static_cast<float>(-1.0 + static_cast<double>(step) * (2.0 / 65535.0));
  std::size_t low = 0;
  std::size_t high = 255;
  while (low < high) {  // the midpoint itself goes down
    const std::size_t middle = (low + high) / 2;
    if (value > (kMap[middle + 1] + kMap[middle]) / 2.0f) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<std::uint8_t>(low);
}

std::size_t block_of(const char* who, std::int64_t blocksize) {
  if (blocksize < 1) {
    detail::fail(ErrorCode::invalid_argument, std::string(who) + ": blocks of " +
                                                  std::to_string(blocksize) +
                                                  " values; at least 1 is possible");
  }
  return static_cast<std::size_t>(blocksize);
}

void check_blocks(const char* who, std::size_t codes, std::size_t absmax, std::size_t size) {
  const std::size_t blocks = codes / size + (codes % size != 0 ? 1 : 0);
  if (absmax == blocks) return;
  detail::fail(ErrorCode::shape_mismatch, std::string(who) + ": " + std::to_string(absmax) +
                                              " absmax for " + std::to_string(codes) + " codes, " +
                                              std::to_string(blocks) + " are wanted");
}

/// The sum of fewer values than there are lanes (torch_sum, below): four chains of single ones,
/// what is left over on the first.
float torch_short_sum(std::span<const float> x) noexcept {
  constexpr std::size_t kChains = 4;
  if (x.size() < kChains) return std::accumulate(x.begin(), x.end(), 0.0f);
  float sum = x[0];
  for (std::size_t i = kChains; i < x.size(); ++i) sum += x[i];
  for (std::size_t chain = 1; chain < kChains; ++chain) sum += x[chain];
  return sum;
}

/// The sum in the order of torch's sum over eight lanes: four chains of vectors in cascades of
/// levels, what is left over, the chains, the lanes. So that the mean is torch's to the bit.
float torch_sum(std::span<const float> x) noexcept {
  constexpr std::size_t kLanes = 8;
  constexpr std::size_t kChains = 4;
  constexpr std::size_t kLevels = 4;
  using Vector = std::array<float, kLanes>;
  const auto add = [](Vector& to, const float* from) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) to[lane] += from[lane];
  };
  if (x.size() < kLanes) return torch_short_sum(x);
  const std::size_t vectors = x.size() / kLanes;
  const std::size_t steps = vectors / kChains;
  const std::size_t power =
      std::max<std::size_t>(4, (steps > 1 ? std::bit_width(steps - 1) : 0) / kLevels);
  const std::size_t step = std::size_t{1} << power;
  Vector sums[kLevels][kChains] = {};
  std::size_t i = 0;
  const auto add_step = [&] {
    for (std::size_t chain = 0; chain < kChains; ++chain) {
      add(sums[0][chain], x.data() + (i * kChains + chain) * kLanes);
    }
    ++i;
  };
  while (i + step <= steps) {
    for (std::size_t j = 0; j < step; ++j) add_step();
    for (std::size_t level = 1; level < kLevels; ++level) {
      for (std::size_t chain = 0; chain < kChains; ++chain) {
        add(sums[level][chain], sums[level - 1][chain].data());
        sums[level - 1][chain] = {};
      }
      if ((i & ((step - 1) << (level * power))) != 0) break;
    }
  }
  while (i < steps) add_step();
  for (std::size_t level = 1; level < kLevels; ++level) {
    for (std::size_t chain = 0; chain < kChains; ++chain) {
      add(sums[0][chain], sums[level][chain].data());
    }
  }
  Vector& sum = sums[0][0];
  for (std::size_t v = steps * kChains; v < vectors; ++v) add(sum, x.data() + v * kLanes);
  for (std::size_t chain = 1; chain < kChains; ++chain) add(sum, sums[0][chain].data());
  float total = 0.0f;
  for (const float rest : x.subspan(vectors * kLanes)) total += rest;
  for (const float lane : sum) total += lane;
  return total;
}

}  // namespace

std::span<const float> dynamic_map() noexcept {
  return kMap;
}

QuantizedBlocks quantize_blockwise(std::span<const float> values, std::int64_t blocksize) {
  constexpr const char* kWho = "bitsandbytes::quantize_blockwise";
  return detail::at_border(kWho, [&] {
    const std::size_t size = block_of(kWho, blocksize);
    QuantizedBlocks result;
    result.codes.reserve(values.size());
    for (std::size_t first = 0; first < values.size(); first += size) {
      const auto block = values.subspan(first, std::min(size, values.size() - first));
      float largest = 0.0f;
      for (std::size_t i = 0; i < block.size(); ++i) {
        if (!std::isfinite(block[i])) {
          detail::fail(ErrorCode::not_finite, std::string(kWho) + ": value " +
                                                  std::to_string(first + i) + " is " +
                                                  std::to_string(block[i]));
        }
        largest = std::max(largest, std::fabs(block[i]));
      }
      result.absmax.push_back(largest);
      const float inverse = largest > 0.0f ? 1.0f / largest : 0.0f;
      for (const float value : block) {
        // A block of zeros has the code 0, and absmax 0.
        result.codes.push_back(largest > 0.0f ? nearest(value * inverse) : std::uint8_t{0});
      }
    }
    return result;
  });
}

std::vector<float> dequantize_blockwise(const QuantizedBlocks& quantized, std::int64_t blocksize) {
  constexpr const char* kWho = "bitsandbytes::dequantize_blockwise";
  return detail::at_border(kWho, [&] {
    const std::size_t size = block_of(kWho, blocksize);
    check_blocks(kWho, quantized.codes.size(), quantized.absmax.size(), size);
    std::vector<float> values;
    values.reserve(quantized.codes.size());
    for (std::size_t i = 0; i < quantized.codes.size(); ++i) {
      values.push_back(kMap[quantized.codes[i]] * quantized.absmax[i / size]);
    }
    return values;
  });
}

NestedAbsmax nest_absmax(std::span<const float> absmax) {
  constexpr const char* kWho = "bitsandbytes::nest_absmax";
  return detail::at_border(kWho, [&] {
    NestedAbsmax nested;
    if (absmax.empty()) return nested;
    nested.offset = torch_sum(absmax) / static_cast<float>(absmax.size());
    if (!std::isfinite(nested.offset)) {
      detail::fail(ErrorCode::not_finite, std::string(kWho) + ": the mean of " +
                                              std::to_string(absmax.size()) +
                                              " absmax is not finite");
    }
    std::vector<float> differences(absmax.begin(), absmax.end());
    for (float& value : differences) value -= nested.offset;
    QuantizedBlocks blocks = quantize_blockwise(differences, kNestedBlock);
    nested.codes = std::move(blocks.codes);
    nested.absmax = std::move(blocks.absmax);
    return nested;
  });
}

std::vector<float> unnest_absmax(const NestedAbsmax& nested) {
  constexpr const char* kWho = "bitsandbytes::unnest_absmax";
  return detail::at_border(kWho, [&] {
    constexpr auto kSize = static_cast<std::size_t>(kNestedBlock);
    check_blocks(kWho, nested.codes.size(), nested.absmax.size(), kSize);
    std::vector<float> absmax;
    absmax.reserve(nested.codes.size());
    for (std::size_t i = 0; i < nested.codes.size(); ++i) {
      absmax.push_back(kMap[nested.codes[i]] * nested.absmax[i / kSize] + nested.offset);
    }
    return absmax;
  });
}

}  // namespace kvant::bitsandbytes
