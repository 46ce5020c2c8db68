// Blocks of 256 values with scales on two levels: small whole numbers for groups of 16 or 32 values
// under one half for all. A scale for each group is searched that leaves the smallest weighted
// squared error; rounded to its whole number, its neighbours are tried too, because another scale
// with codes of its own is often better than the nearest one.
//
// The groups of a block lie side by side as lanes (value i of all groups, then value i + 1), so
// that every loop over them is one that compilers turn into vectors without changing an order of
// sums.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "io/file/byte_order.hpp"
#include "io/gguf/gguf_quantizers.hpp"
#include "kvant/float16.hpp"

namespace kvant::io {
namespace {

constexpr int kSuperBlock = 256;

/// Half to even, within a range of codes, without a call.
inline float nearest(float x, float low, float high) noexcept {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the unit of a float there is 1
  x = x < low ? low : x;
  x = x > high ? high : x;
  return (x + kShift) - kShift;
}

/// A half, as it will be read.
float as_half(std::byte* at, float value) noexcept {
  const float16 half(value);
  store_little(at, half.bits);
  return static_cast<float>(half);
}

/// x / by; 0 where by is 0, or so small that nothing is left of 1 / by.
inline float ratio(float x, float by) noexcept {
  return std::fabs(by) < 1e-37f ? 0.0f : x / by;
}

/// A number for each group.
template <int Groups>
struct Lanes {
  float at[Groups] = {};

  float& operator[](int g) noexcept { return at[g]; }
  float operator[](int g) const noexcept { return at[g]; }
};

/// A block with its groups side by side.
template <int Groups>
struct Grouped {
  static constexpr int kSize = kSuperBlock / Groups;

  explicit Grouped(const float* values) noexcept {
    for (int g = 0; g < Groups; ++g) {
      for (int i = 0; i < kSize; ++i) rows[i][g] = values[g * kSize + i];
    }
  }
  Grouped() noexcept = default;

  Lanes<Groups> rows[kSize];
};

// ---- values = scale * code - offset, codes from 0 to Top, groups of 32: Q4_K and Q5_K ----

constexpr int kAffineGroups = 8;
using AffineLanes = Lanes<kAffineGroups>;
using AffineBlock = Grouped<kAffineGroups>;

struct AffineForm {
  AffineLanes scale;
  AffineLanes offset;  ///< from 0 up
};

/// The weighted squared errors that codes leave.
template <int Top>
AffineLanes affine_errors(const AffineBlock& x, const AffineBlock& weights,
                          const AffineForm& form) noexcept {
  AffineLanes by;
  AffineLanes errors;
  for (int g = 0; g < kAffineGroups; ++g) by[g] = ratio(1.0f, form.scale[g]);
  for (int i = 0; i < AffineBlock::kSize; ++i) {
    for (int g = 0; g < kAffineGroups; ++g) {
      const float value = x.rows[i][g];
      const float code = nearest((value + form.offset[g]) * by[g], 0.0f, Top);
      const float difference = form.scale[g] * code - form.offset[g] - value;
      errors[g] += weights.rows[i][g] * difference * difference;
    }
  }
  return errors;
}

/// The best scales and offsets for the codes that a form gives: weighted least squares. A group
/// whose codes are all the same keeps its form.
template <int Top>
AffineForm fit_affine(const AffineBlock& x, const AffineBlock& weights,
                      const AffineForm& form) noexcept {
  AffineLanes by, w, wx, wq, wqq, wqx;
  for (int g = 0; g < kAffineGroups; ++g) by[g] = ratio(1.0f, form.scale[g]);
  for (int i = 0; i < AffineBlock::kSize; ++i) {
    for (int g = 0; g < kAffineGroups; ++g) {
      const float value = x.rows[i][g];
      const float weight = weights.rows[i][g];
      const float code = nearest((value + form.offset[g]) * by[g], 0.0f, Top);
      w[g] += weight;
      wx[g] += weight * value;
      wq[g] += weight * code;
      wqq[g] += weight * code * code;
      wqx[g] += weight * code * value;
    }
  }
  AffineForm result = form;
  for (int g = 0; g < kAffineGroups; ++g) {
    const float determinant = w[g] * wqq[g] - wq[g] * wq[g];
    if (!(determinant > 0)) continue;
    float scale = (w[g] * wqx[g] - wx[g] * wq[g]) / determinant;
    float offset = (wq[g] * wqx[g] - wqq[g] * wx[g]) / determinant;
    if (offset < 0) {  // an offset below 0 cannot be stored
      offset = 0;
      scale = wqx[g] / wqq[g];
    }
    if (!(scale > 0) || !std::isfinite(scale) || !std::isfinite(offset)) continue;
    result.scale[g] = scale;
    result.offset[g] = offset;
  }
  return result;
}

/// From the range of the values on: stretched and shrunk a little, each time fitted to the codes.
template <int Top>
AffineForm search_affine(const AffineBlock& x, const AffineBlock& weights) noexcept {
  AffineLanes range;
  AffineForm best;
  for (int g = 0; g < kAffineGroups; ++g) {
    float low = 0.0f;  // where all are above: an offset below 0 cannot be stored
    float high = x.rows[0][g];
    for (int i = 0; i < AffineBlock::kSize; ++i) {
      low = std::min(low, x.rows[i][g]);
      high = std::max(high, x.rows[i][g]);
    }
    range[g] = high - low;
    best.scale[g] = range[g] / Top;
    best.offset[g] = -low;
  }
  const AffineLanes offset = best.offset;
  AffineLanes least = affine_errors<Top>(x, weights, best);
  constexpr int kSteps = 10;
  for (int step = -kSteps; step <= kSteps; ++step) {
    AffineForm form{{}, offset};
    for (int g = 0; g < kAffineGroups; ++g) {
      form.scale[g] = range[g] / (static_cast<float>(Top) + 0.1f * static_cast<float>(step));
    }
    form = fit_affine<Top>(x, weights, form);
    const AffineLanes errors = affine_errors<Top>(x, weights, form);
    for (int g = 0; g < kAffineGroups; ++g) {
      if (!(errors[g] < least[g])) continue;
      least[g] = errors[g];
      best.scale[g] = form.scale[g];
      best.offset[g] = form.offset[g];
    }
  }
  return best;
}

/// Large values matter more, and small ones do not matter nothing.
AffineBlock affine_weights(const AffineBlock& x) noexcept {
  AffineLanes squares;
  for (const AffineLanes& row : x.rows) {
    for (int g = 0; g < kAffineGroups; ++g) squares[g] += row[g] * row[g];
  }
  AffineBlock weights;
  for (int g = 0; g < kAffineGroups; ++g) {
    const float mean = std::sqrt(squares[g] / AffineBlock::kSize);
    for (int i = 0; i < AffineBlock::kSize; ++i) {
      weights.rows[i][g] = mean + std::fabs(x.rows[i][g]);
    }
  }
  return weights;
}

struct AffineCodes {
  int scales[kAffineGroups];   ///< 6 bits
  int offsets[kAffineGroups];  ///< 6 bits
  int codes[kSuperBlock];
};

/// @param halves where the block has the halves of scales and of offsets
template <int Top>
AffineCodes quantize_affine(const float* values, std::byte* halves) noexcept {
  constexpr float kTopScale = 63.0f;
  const AffineBlock x(values);
  const AffineBlock weights = affine_weights(x);
  const AffineForm wanted = search_affine<Top>(x, weights);
  const float scale_unit = as_half(
      halves, *std::max_element(wanted.scale.at, wanted.scale.at + kAffineGroups) / kTopScale);
  const float offset_unit =
      as_half(halves + 2,
              *std::max_element(wanted.offset.at, wanted.offset.at + kAffineGroups) / kTopScale);
  AffineLanes least;
  AffineForm best;  // in units
  for (const float scale_step : {0.0f, -1.0f, 1.0f}) {
    for (const float offset_step : {0.0f, -1.0f, 1.0f}) {
      AffineForm units;
      AffineForm form;
      for (int g = 0; g < kAffineGroups; ++g) {
        units.scale[g] = nearest(ratio(wanted.scale[g], scale_unit), 0.0f, kTopScale) + scale_step;
        units.offset[g] =
            nearest(ratio(wanted.offset[g], offset_unit), 0.0f, kTopScale) + offset_step;
        units.scale[g] = std::clamp(units.scale[g], 0.0f, kTopScale);
        units.offset[g] = std::clamp(units.offset[g], 0.0f, kTopScale);
        form.scale[g] = scale_unit * units.scale[g];
        form.offset[g] = offset_unit * units.offset[g];
      }
      const AffineLanes errors = affine_errors<Top>(x, weights, form);
      const bool first = scale_step == 0.0f && offset_step == 0.0f;
      for (int g = 0; g < kAffineGroups; ++g) {
        if (!first && !(errors[g] < least[g])) continue;
        least[g] = errors[g];
        best.scale[g] = units.scale[g];
        best.offset[g] = units.offset[g];
      }
    }
  }
  AffineCodes result;
  for (int g = 0; g < kAffineGroups; ++g) {
    result.scales[g] = static_cast<int>(best.scale[g]);
    result.offsets[g] = static_cast<int>(best.offset[g]);
    const float by = ratio(1.0f, scale_unit * best.scale[g]);
    const float offset = offset_unit * best.offset[g];
    for (int i = 0; i < AffineBlock::kSize; ++i) {
      const float code = nearest((x.rows[i][g] + offset) * by, 0.0f, Top);
      result.codes[g * AffineBlock::kSize + i] = static_cast<int>(code);
    }
  }
  return result;
}

/// Eight scales and eight offsets of 6 bits in 12 bytes.
void pack_six_bits(const AffineCodes& block, std::byte* out) noexcept {
  for (int k = 0; k < 4; ++k) {
    out[k] = static_cast<std::byte>(block.scales[k] | block.scales[k + 4] >> 4 << 6);
    out[k + 4] = static_cast<std::byte>(block.offsets[k] | block.offsets[k + 4] >> 4 << 6);
    out[k + 8] =
        static_cast<std::byte>((block.scales[k + 4] & 15) | (block.offsets[k + 4] & 15) << 4);
  }
}

/// Four bits of each code: groups 0 and 1 share the first 32 bytes, and so on.
void pack_nibbles(const AffineCodes& block, std::byte* out) noexcept {
  for (int i = 0; i < kSuperBlock / 2; ++i) {
    const int at = i / 32 * 64 + i % 32;
    out[i] = static_cast<std::byte>((block.codes[at] & 15) | (block.codes[at + 32] & 15) << 4);
  }
}

// ---- values = scale * code, codes from -32 to 31, groups of 16: Q6_K ----

constexpr int kSymmetricGroups = 16;
using SymmetricLanes = Lanes<kSymmetricGroups>;
using SymmetricBlock = Grouped<kSymmetricGroups>;
constexpr float kLowCode = -32.0f;
constexpr float kHighCode = 31.0f;

/// The squared errors that codes leave, where large values matter more.
SymmetricLanes symmetric_errors(const SymmetricBlock& x, const SymmetricLanes& scale) noexcept {
  SymmetricLanes by;
  SymmetricLanes errors;
  for (int g = 0; g < kSymmetricGroups; ++g) by[g] = ratio(1.0f, scale[g]);
  for (const SymmetricLanes& row : x.rows) {
    for (int g = 0; g < kSymmetricGroups; ++g) {
      const float code = nearest(row[g] * by[g], kLowCode, kHighCode);
      const float difference = scale[g] * code - row[g];
      errors[g] += row[g] * row[g] * difference * difference;
    }
  }
  return errors;
}

/// The peak of a group becomes the code -32, or one near it: the scale has the opposite sign.
SymmetricLanes search_symmetric(const SymmetricBlock& x) noexcept {
  SymmetricLanes peak;
  SymmetricLanes best;
  for (int g = 0; g < kSymmetricGroups; ++g) {
    for (const SymmetricLanes& row : x.rows) {
      if (std::fabs(row[g]) > std::fabs(peak[g])) peak[g] = row[g];
    }
    best[g] = peak[g] / kLowCode;
  }
  SymmetricLanes least = symmetric_errors(x, best);
  constexpr int kSteps = 9;
  for (int step = -kSteps; step <= kSteps; ++step) {
    SymmetricLanes by, above, below;
    for (int g = 0; g < kSymmetricGroups; ++g) {
      by[g] = ratio(kLowCode - 0.1f * static_cast<float>(step), peak[g]);
    }
    for (const SymmetricLanes& row : x.rows) {
      for (int g = 0; g < kSymmetricGroups; ++g) {
        const float code = nearest(row[g] * by[g], kLowCode, kHighCode);
        const float weighted = row[g] * row[g] * code;
        above[g] += weighted * row[g];
        below[g] += weighted * code;
      }
    }
    SymmetricLanes scale;
    for (int g = 0; g < kSymmetricGroups; ++g) scale[g] = ratio(above[g], below[g]);
    const SymmetricLanes errors = symmetric_errors(x, scale);
    for (int g = 0; g < kSymmetricGroups; ++g) {
      if (!(errors[g] < least[g])) continue;
      least[g] = errors[g];
      best[g] = scale[g];
    }
  }
  return best;
}

}  // namespace

void quantize_q4_k(const float* values, std::byte* block) noexcept {
  const AffineCodes found = quantize_affine<15>(values, block);
  pack_six_bits(found, block + 4);
  pack_nibbles(found, block + 16);
}

void quantize_q5_k(const float* values, std::byte* block) noexcept {
  const AffineCodes found = quantize_affine<31>(values, block);
  pack_six_bits(found, block + 4);
  for (int i = 0; i < AffineBlock::kSize; ++i) {
    int bits = 0;
    for (int k = 0; k < kAffineGroups; ++k) {
      bits |= found.codes[k * AffineBlock::kSize + i] >> 4 << k;
    }
    block[16 + i] = static_cast<std::byte>(bits);
  }
  pack_nibbles(found, block + 48);
}

void quantize_q6_k(const float* values, std::byte* block) noexcept {
  constexpr float kLowScale = -128.0f;
  constexpr float kHighScale = 127.0f;
  const SymmetricBlock x(values);
  const SymmetricLanes wanted = search_symmetric(x);
  const float peak =
      *std::max_element(wanted.at, wanted.at + kSymmetricGroups,
                        [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  const float unit = as_half(block + 208, peak / kLowScale);
  SymmetricLanes least;
  SymmetricLanes best;  // in units
  for (const float step : {0.0f, -1.0f, 1.0f}) {
    SymmetricLanes units;
    SymmetricLanes scale;
    for (int g = 0; g < kSymmetricGroups; ++g) {
      units[g] = nearest(ratio(wanted[g], unit), kLowScale, kHighScale) + step;
      units[g] = std::clamp(units[g], kLowScale, kHighScale);
      scale[g] = unit * units[g];
    }
    const SymmetricLanes errors = symmetric_errors(x, scale);
    for (int g = 0; g < kSymmetricGroups; ++g) {
      if (step != 0.0f && !(errors[g] < least[g])) continue;
      least[g] = errors[g];
      best[g] = units[g];
    }
  }
  int codes[kSuperBlock];  // from 0 up
  for (int g = 0; g < kSymmetricGroups; ++g) {
    block[192 + g] = static_cast<std::byte>(static_cast<std::int8_t>(best[g]));
    const float by = ratio(1.0f, unit * best[g]);
    for (int i = 0; i < SymmetricBlock::kSize; ++i) {
      const float code = nearest(x.rows[i][g] * by, kLowCode, kHighCode);
      codes[g * SymmetricBlock::kSize + i] = static_cast<int>(code - kLowCode);
    }
  }
  for (int half = 0; half < 2; ++half) {
    const int* code = codes + 128 * half;
    for (int l = 0; l < 32; ++l) {
      block[64 * half + l] = static_cast<std::byte>((code[l] & 15) | (code[l + 64] & 15) << 4);
      block[64 * half + 32 + l] =
          static_cast<std::byte>((code[l + 32] & 15) | (code[l + 96] & 15) << 4);
      block[128 + 32 * half + l] = static_cast<std::byte>(
          code[l] >> 4 | code[l + 32] >> 4 << 2 | code[l + 64] >> 4 << 4 | code[l + 96] >> 4 << 6);
    }
  }
}

}  // namespace kvant::io
