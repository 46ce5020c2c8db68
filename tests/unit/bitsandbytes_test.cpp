// What bitsandbytes gives where sizes are odd or small, and its 8-bit blocks: byte for byte.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kvant/bitsandbytes.hpp"
#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "kvant/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"

namespace {

namespace bitsandbytes = kvant::bitsandbytes;
using kvant::ErrorCode;
using kvant::WeightFormat;
using kvant::io::SafeTensors;
using kvant::test::code_of;
using kvant::test::data_path;

}  // namespace

TEST_CASE("an odd number of 4-bit codes: the last byte is filled with the code of 0") {
  const SafeTensors file(data_path("bitsandbytes/odd_sizes.safetensors"));
  for (const WeightFormat format : {WeightFormat::nf4, WeightFormat::fp4}) {
    const std::string name(to_string(format));
    const auto check = [&](const std::string& key, const kvant::ConstAnyMatrix& weights) {
      INFO(name << key);
      const auto quantized = bitsandbytes::quantize_4bit(weights, format);
      CHECK(quantized.codes == file.values<std::uint8_t>(name + key + ".packed"));
      CHECK(quantized.absmax == file.values<float>(name + key + ".absmax"));
    };
    check(".f32", file.matrix<float>(name + ".f32.weight"));
    check(".bf16", file.matrix<kvant::bfloat16>(name + ".bf16.weight"));
    check(".165", file.matrix<float>(name + ".165.weight"));
  }
}

TEST_CASE("the offset of nested absmax is torch's mean for few of them too") {
  const SafeTensors file(data_path("bitsandbytes/odd_sizes.safetensors"));
  for (std::size_t n = 1; n <= 8; ++n) {
    INFO(n);
    const std::string name = "few." + std::to_string(n);
    const auto all = file.values<float>(name + ".absmax");
    const auto offsets = file.values<float>(name + ".offset");
    REQUIRE(all.size() == offsets.size() * n);
    for (std::size_t row = 0; row < offsets.size(); ++row) {
      const std::span<const float> absmax = std::span(all).subspan(row * n, n);
      CHECK(bitsandbytes::nest_absmax(absmax).offset == offsets[row]);
    }
  }
}

TEST_CASE("8-bit blocks of the dynamic map: codes, absmax and values of bitsandbytes") {
  const SafeTensors file(data_path("bitsandbytes/blockwise8.safetensors"));
  const auto map = bitsandbytes::dynamic_map();
  CHECK(std::vector<float>(map.begin(), map.end()) == file.values<float>("code_map"));
  const auto x = file.values<float>("x");
  const auto quantized = bitsandbytes::quantize_blockwise(x, 256);
  CHECK(quantized.absmax == file.values<float>("absmax"));
  CHECK(quantized.codes == file.values<std::uint8_t>("codes"));
  CHECK(bitsandbytes::dequantize_blockwise(quantized, 256) == file.values<float>("dequantized"));
}

TEST_CASE("8-bit blocks: zeros stay, what is not finite and blocks that do not fit are refused") {
  const std::vector<float> zeros(5);
  const auto none = bitsandbytes::quantize_blockwise(zeros, 2);
  CHECK(none.absmax == std::vector<float>(3));
  CHECK(bitsandbytes::dequantize_blockwise(none, 2) == zeros);
  CHECK(bitsandbytes::quantize_blockwise({}).codes.empty());
  std::string message;
  CHECK(code_of([&] { static_cast<void>(bitsandbytes::quantize_blockwise(zeros, 0)); }, &message) ==
        ErrorCode::invalid_argument);
  CHECK(message.find("blocks of 0 values") != std::string::npos);
  const std::vector<float> odd = {1.0f, 2.0f, std::nanf("")};
  CHECK(code_of([&] { static_cast<void>(bitsandbytes::quantize_blockwise(odd)); }, &message) ==
        ErrorCode::not_finite);
  CHECK(message.find("value 2 is nan") != std::string::npos);
  CHECK(code_of([&] { static_cast<void>(bitsandbytes::dequantize_blockwise(none, 3)); },
                &message) == ErrorCode::shape_mismatch);
  CHECK(message.find("3 absmax for 5 codes, 2 are wanted") != std::string::npos);
}
