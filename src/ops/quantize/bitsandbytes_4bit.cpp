#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "formats/rules.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/codebook.hpp"
#include "kvant/isa.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant::bitsandbytes {

using namespace kvant::detail;

namespace {

constexpr std::int64_t kCodesAtOnce = 1 << 16;

/// The code of +0, with which bitsandbytes fills the last byte of an odd number of codes.
unsigned code_of_zero(WeightFormat format) noexcept {
  const auto& values = table_of(describe(format).codebook)->value;
  const auto* const zero = std::find_if(std::begin(values), std::end(values), [](float value) {
    return value == 0.0f && !std::signbit(value);
  });
  return static_cast<unsigned>(zero - std::begin(values));
}

}  // namespace

Quantized4bit quantize_4bit(ConstAnyMatrix weights, WeightFormat format, std::int64_t blocksize) {
  constexpr const char* kWho = "bitsandbytes::quantize_4bit";
  return at_border(kWho, [&] {
    check_float(kWho, "weights", weights);
    const WeightFormatInfo& info = describe(format);
    if (info.axis != BlockAxis::flattened) {
      fail(ErrorCode::unsupported, std::string(kWho) + ": " + std::string(info.name) +
                                       " is not a 4-bit format of bitsandbytes (nf4, fp4)");
    }
    if (blocksize < 32 || blocksize % 32 != 0 || blocksize > (std::int64_t{1} << 20)) {
      fail(ErrorCode::invalid_argument, std::string(kWho) + ": blocks of " +
                                            std::to_string(blocksize) +
                                            " weights; multiples of 32 are possible");
    }
    const std::int64_t n = weights.rows;
    const std::int64_t k = weights.cols;
    const FloatRows whole = {weights.data, weights.dtype, n, k, weights.stride};
    Quantized4bit result;
    result.codes.resize(static_cast<std::size_t>((n * k + 1) / 2));
    result.absmax.resize(static_cast<std::size_t>(info.scales(n, k, blocksize)));
    // Some rows at a time: a block that crosses them is scanned once.
    const std::int64_t stride = (k + 63) / 64 * 64;
    const std::int64_t together =
        std::max<std::int64_t>(1, kCodesAtOnce / std::max<std::int64_t>(k, 1));
    const std::int64_t row_scales = info.row_scales(k, blocksize);
    std::vector<std::byte> rows(static_cast<std::size_t>(together * stride));
    std::vector<float> scales(static_cast<std::size_t>(together * row_scales));
    for (std::int64_t first = 0; first < n && k > 0; first += together) {
      const std::int64_t count = std::min(together, n - first);
      rules_of(format)->encode(kernels_for(), whole, first, count,
                               {.block = blocksize, .bitsandbytes = true, .zero_points = false},
                               {.codes = rows.data(),
                                .code_stride = stride,
                                .scales = scales.data(),
                                .zeros = nullptr,
                                .absmax = nullptr});
      for (std::int64_t r = 0; r < count; ++r) {
        const std::int64_t begin = (first + r) * k;  // in the flattened weight
        for (std::int64_t c = 0; c < k; ++c) {
          const auto code =
              std::to_integer<unsigned>(rows[static_cast<std::size_t>(r * stride + c)]);
          std::uint8_t& byte = result.codes[static_cast<std::size_t>((begin + c) / 2)];
          byte = static_cast<std::uint8_t>((begin + c) % 2 == 0 ? code << 4 : byte | code);
        }
        const std::int64_t blocks = (begin + k - 1) / blocksize - begin / blocksize + 1;
        std::copy_n(scales.data() + r * row_scales, blocks,
                    result.absmax.data() + begin / blocksize);
      }
    }
    if (n * k % 2 != 0) {
      std::uint8_t& last = result.codes.back();
      last = static_cast<std::uint8_t>(last | code_of_zero(format));
    }
    return result;
  });
}

}  // namespace kvant::bitsandbytes
