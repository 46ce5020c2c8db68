#include <string>

#include "formats/rules.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/float_element.hpp"
#include "kvant/isa.hpp"
#include "ops/support/border.hpp"
#include "ops/support/validate.hpp"

namespace kvant::bitsandbytes {

using namespace kvant::detail;

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
    std::vector<std::byte> row(static_cast<std::size_t>((k + 63) / 64 * 64));
    std::vector<float> scales(static_cast<std::size_t>(info.row_scales(k, blocksize)));
    std::int64_t at = 0;  // in the flattened weight
    for (std::int64_t r = 0; r < n && k > 0; ++r) {
      rules_of(format)->encode(kernels_for(), whole, r, 1,
                               {.block = blocksize, .bitsandbytes = true, .zero_points = false},
                               {.codes = row.data(),
                                .code_stride = static_cast<std::ptrdiff_t>(row.size()),
                                .scales = scales.data(),
                                .zeros = nullptr,
                                .absmax = nullptr});
      for (std::int64_t c = 0; c < k; ++c, ++at) {
        auto code = std::to_integer<unsigned>(row[static_cast<std::size_t>(c)]);
        if (format == WeightFormat::fp4 && code == 0) {
          // Of its two zeros bitsandbytes gives the second to what is above 0.
          const float scale = scales[static_cast<std::size_t>(at / blocksize - r * k / blocksize)];
          const float value = load_element(weights.data, weights.dtype, r * weights.stride + c);
          if (scale > 0.0f && value * (1.0f / scale) > 0.0f) code = 8;
        }
        std::uint8_t& byte = result.codes[static_cast<std::size_t>(at / 2)];
        byte = static_cast<std::uint8_t>(at % 2 == 0 ? code << 4 : byte | code);
        if (at % blocksize == 0 || c == 0) {
          result.absmax[static_cast<std::size_t>(at / blocksize)] =
              scales[static_cast<std::size_t>(at / blocksize - r * k / blocksize)];
        }
      }
    }
    return result;
  });
}

}  // namespace kvant::bitsandbytes
