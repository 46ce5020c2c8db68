// Weights of 4 bits against bitsandbytes itself: codes and absmax bit for bit, dequantized weights
// too, blocks that cross rows among them; and layers: in exact arithmetic the product of these
// weights, in int8 arithmetic near it.

#include <algorithm>
#include <cmath>

#include "kvant/bitsandbytes.hpp"
#include "kvant/float_element.hpp"
#include "kvant/four_bits.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

struct FourBitCase {
  std::string name;
  std::int64_t n, k, block;
  WeightFormat format;
  bool nested;
  DType dtype;
};

std::vector<FourBitCase> four_bit_cases() {
  std::vector<FourBitCase> cases;
  const auto json = read_json("bitsandbytes/cases.json");
  for (const auto& c : json.at("linear4bit")) {
    cases.push_back({c["name"], c["n"], c["k"], c["blocksize"],
                     *weight_format_from_name(c["quant_type"].get<std::string>()),
                     c["double_quant"], *dtype_from_name(c["weight_dtype"].get<std::string>())});
  }
  REQUIRE(cases.size() == 6);
  return cases;
}

/// A tensor as floats, whatever its floating type.
std::vector<float> floats_of(const io::SafeTensors& file, const std::string& name) {
  const io::TensorView tensor = file.tensor(name);
  std::vector<float> values;
  const std::int64_t size = describe(tensor.info->dtype).bits / 8;
  for (std::size_t i = 0; i < tensor.data.size() / static_cast<std::size_t>(size); ++i) {
    values.push_back(detail::load_element(tensor.data.data(), tensor.info->dtype,
                                          static_cast<std::ptrdiff_t>(i)));
  }
  return values;
}

/// The codes of a packed tensor, a byte each; the high nibble comes first.
std::vector<std::uint8_t> golden_codes(const io::SafeTensors& file, const std::string& name,
                                       std::int64_t count) {
  std::vector<std::uint8_t> codes;
  for (const std::uint8_t byte : file.values<std::uint8_t>(name)) {
    codes.push_back(byte >> 4);
    codes.push_back(byte & 15);
  }
  codes.resize(static_cast<std::size_t>(count));
  return codes;
}

/// The absmax of every block as bitsandbytes uses it.
std::vector<float> golden_absmax(const io::SafeTensors& file, const FourBitCase& c) {
  if (!c.nested) return file.values<float>(c.name + ".absmax");
  const auto codes = file.values<std::uint8_t>(c.name + ".absmax");
  const auto table = file.values<float>(c.name + ".nested_code");
  const auto outer = file.values<float>(c.name + ".nested_absmax");
  const float offset = file.values<float>(c.name + ".offset")[0];
  std::vector<float> absmax;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    absmax.push_back(table[codes[i]] * outer[i / 256] + offset);
  }
  return absmax;
}

}  // namespace

TEST_CASE("four bits: codes, absmax and values are bitsandbytes', on every kernel set") {
  const io::SafeTensors file(data_path("bitsandbytes/linear4bit.safetensors"));
  for (const FourBitCase& c : four_bit_cases()) {
    const io::TensorView weight = file.tensor(c.name + ".weight");
    const ConstAnyMatrix view(weight.data.data(), weight.info->dtype, c.n, c.k, c.k);
    for (const IsaInfo& isa : instruction_sets()) {
      if (!isa.available) continue;
      Context context({.isa = isa.name});
      const auto packed = PackedWeights::quantize(context, view, c.format, {.block = c.block});
      INFO(isa.name << " " << c.name);
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(c.n * c.k));
      packed.unpack_rows(0, MatrixView<std::uint8_t>(codes.data(), c.n, c.k));
      CHECK((codes == golden_codes(file, c.name + ".packed", c.n * c.k)));
      const std::vector<float> absmax = golden_absmax(file, c);
      std::vector<float> scales;
      std::vector<std::uint8_t> zeros;
      for (std::int64_t r = 0; r < c.n && !c.nested; ++r) {
        packed.unpack_scales(r, scales, zeros);
        const auto first = static_cast<std::size_t>(r * c.k / c.block);
        REQUIRE(first + scales.size() <= absmax.size());
        CHECK(std::equal(scales.begin(), scales.end(), absmax.begin() + static_cast<long>(first)));
        CHECK(zeros.empty());
      }
      // From codes and absmax, nested ones too: the values that bitsandbytes multiplies by.
      const auto from_codes = PackedWeights::from_codes(
          context, {.format = c.format,
                    .codes = MatrixView<const std::uint8_t>(codes.data(), c.n, c.k),
                    .scales = absmax,
                    .block = c.block});
      std::vector<float> values(codes.size());
      from_codes.dequantize(MatrixView<float>(values.data(), c.n, c.k));
      for (float& value : values) value = detail::round_to(c.dtype, value);
      CHECK((values == floats_of(file, c.name + ".dequantized")));
      if (!c.nested) continue;
      PackedWeights::quantize(context, view, c.format, {.block = c.block, .nested_absmax = true})
          .dequantize(MatrixView<float>(values.data(), c.n, c.k));
      for (float& value : values) value = detail::round_to(c.dtype, value);
      CHECK((values == floats_of(file, c.name + ".dequantized")));
    }
  }
}

TEST_CASE("quantize_4bit and nest_absmax make bitsandbytes' bytes") {
  const io::SafeTensors file(data_path("bitsandbytes/linear4bit.safetensors"));
  for (const FourBitCase& c : four_bit_cases()) {
    const io::TensorView weight = file.tensor(c.name + ".weight");
    const auto q = bitsandbytes::quantize_4bit(
        {weight.data.data(), weight.info->dtype, c.n, c.k, c.k}, c.format, c.block);
    INFO(c.name);
    CHECK((q.codes == file.values<std::uint8_t>(c.name + ".packed")));
    if (!c.nested) {
      CHECK((q.absmax == file.values<float>(c.name + ".absmax")));
      continue;
    }
    const auto nested = bitsandbytes::nest_absmax(q.absmax);
    CHECK((nested.codes == file.values<std::uint8_t>(c.name + ".absmax")));
    CHECK((nested.absmax == file.values<float>(c.name + ".nested_absmax")));
    CHECK(nested.offset == file.values<float>(c.name + ".offset")[0]);
    CHECK((bitsandbytes::unnest_absmax(nested) == golden_absmax(file, c)));
    const auto map = file.values<float>(c.name + ".nested_code");
    CHECK(std::equal(map.begin(), map.end(), bitsandbytes::dynamic_map().begin()));
  }
  CHECK(code_of([] {
          (void)bitsandbytes::nest_absmax(std::vector<float>{1.0f, NAN});
        }) == ErrorCode::not_finite);
  CHECK(code_of([] {
          (void)bitsandbytes::unnest_absmax({{1, 2}, {}, 0.0f});
        }) == ErrorCode::shape_mismatch);
  const std::vector<float> w(64, 1.0f);
  CHECK(code_of([&] {
          (void)bitsandbytes::quantize_4bit(view(w, 1, 64), WeightFormat::int8_row);
        }) == ErrorCode::unsupported);
  CHECK(code_of([&] {
          (void)bitsandbytes::quantize_4bit(view(w, 1, 64), WeightFormat::nf4, 48);
        }) == ErrorCode::invalid_argument);
  // Equal absmax differ by nothing: codes 0.
  const auto same = bitsandbytes::nest_absmax(std::vector<float>(300, 2.0f));
  CHECK((same.codes == std::vector<std::uint8_t>(300, 0)));
  CHECK((bitsandbytes::unnest_absmax(same) == std::vector<float>(300, 2.0f)));
}

TEST_CASE("four bits: layers multiply bitsandbytes' weights, exactly or by int8") {
  const io::SafeTensors file(data_path("bitsandbytes/linear4bit.safetensors"));
  for (const FourBitCase& c : four_bit_cases()) {
    const auto codes = golden_codes(file, c.name + ".packed", c.n * c.k);
    const std::vector<float> absmax = golden_absmax(file, c);
    const std::vector<float> x = file.values<float>(c.name + ".x");
    const std::vector<double> want = file.values<double>(c.name + ".y_float64");
    const std::int64_t m = static_cast<std::int64_t>(x.size()) / c.k;
    double largest = 0.0;
    for (const double y : want) largest = std::max(largest, std::fabs(y));
    for (const IsaInfo& isa : instruction_sets()) {
      if (!isa.available) continue;
      Context context({.isa = isa.name});
      const auto packed = PackedWeights::from_codes(
          context, {.format = c.format,
                    .codes = MatrixView<const std::uint8_t>(codes.data(), c.n, c.k),
                    .scales = absmax,
                    .block = c.block});
      for (const auto& [arithmetic, bound] :
           {std::pair{Arithmetic::exact, c.dtype == DType::float32 ? 2e-6 : 4e-3},
            {Arithmetic::bitsandbytes, c.dtype == DType::float32 ? 2e-6 : 4e-3},
            {Arithmetic::kvant, 0.02}}) {
        const Linear layer = Linear::from(packed, {}, {.arithmetic = arithmetic});
        std::vector<float> y(want.size());
        layer.forward(context, view(x, m, c.k), MatrixView<float>(y.data(), m, c.n));
        double worst = 0.0;
        for (std::size_t i = 0; i < y.size(); ++i) {
          worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - want[i]));
        }
        INFO(isa.name << " " << c.name << " arithmetic " << static_cast<int>(arithmetic)
                      << " error " << worst / largest);
        CHECK(worst <= bound * largest);
      }
    }
  }
}

TEST_CASE("four bits: layers by their names") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 48 * 128, 0.1f);
  const std::vector<float> bias = random_floats(generator, 48);
  const std::vector<float> x = random_floats(generator, 3 * 128);
  std::vector<float> y(3 * 48);
  std::vector<float> want(y.size());
  const auto check = [&](const auto& layer, WeightFormat format, const PackOptions& packing) {
    CHECK(layer.in_features() == 128);
    CHECK(layer.out_features() == 48);
    layer.forward(view(x, 3, 128), MatrixView<float>(y.data(), 3, 48));
    Linear::quantize(view(w, 48, 128), format, view(bias, 1, 48), {}, packing)
        .forward(view(x, 3, 128), MatrixView<float>(want.data(), 3, 48));
    CHECK(y == want);
    CHECK(layer.linear().format() == format);
    CHECK(layer.memory_footprint() >= layer.weight_bytes());
  };
  const auto nf4 = Nf4Linear::quantize(view(w, 48, 128), view(bias, 1, 48));
  check(nf4, WeightFormat::nf4, {});
  CHECK(nf4.weight_bytes() == 48 * 128 / 2 + 48 * 2 * 4 + 48 * 4);  // as bitsandbytes counts
  check(Fp4Linear::quantize(view(w, 48, 128), view(bias, 1, 48), {.block = 128}), WeightFormat::fp4,
        {.block = 128});
  check(Int4Linear::quantize(view(w, 48, 128), view(bias, 1, 48)), WeightFormat::int4_group, {});
  check(Int4Linear::quantize(view(w, 48, 128), view(bias, 1, 48),
                             {.block = 32, .zero_points = false}),
        WeightFormat::int4_group, {.block = 32, .zero_points = false});
  check(Fp4Linear::quantize(view(w, 48, 128), view(bias, 1, 48), {.nested_absmax = true}),
        WeightFormat::fp4, {.nested_absmax = true});
  CHECK(code_of([&] {
          (void)Int4Linear::quantize(view(w, 48, 128), {}, {.nested_absmax = true});
        }) == ErrorCode::invalid_argument);
  const std::vector<std::int64_t> columns = {3, 70};
  const auto kept = Nf4Linear::quantize(view(w, 48, 128), {}, {.keep_columns = columns});
  CHECK(kept.linear().kept_weights().size() == 2 * 48);
}

TEST_CASE("four bits: blocks of zeros whose nested absmax comes back below 0 are multiplied so") {
  constexpr std::int64_t kRows = 42;
  constexpr std::int64_t kInner = 224;  // blocks cross rows
  std::mt19937_64 generator(test_seed());
  // Of three blocks two are zeros and one has an absmax of 1: the mean is 1/3, and -1/3 comes back
  // as -0.50078 * 2/3.
  std::vector<float> w = random_floats(generator, kRows * kInner, 0.1f);
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = i / 64 % 3 != 0 ? 0.0f : i % 64 == 0 ? 1.0f : std::clamp(w[i], -0.9f, 0.9f);
  }
  const std::vector<float> x = random_floats(generator, 3 * kInner);
  std::vector<float> first;
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    Context context({.isa = isa.name});
    const auto layer =
        Nf4Linear::quantize(context, view(w, kRows, kInner), {}, {.nested_absmax = true});
    std::vector<float> scales;
    std::vector<std::uint8_t> zeros;
    layer.linear().weights().unpack_scales(0, scales, zeros);
    REQUIRE(scales[1] < 0.0f);
    std::vector<float> y(3 * kRows);
    layer.forward(context, view(x, 3, kInner), MatrixView<float>(y.data(), 3, kRows));
    if (first.empty()) first = y;
    CHECK(y == first);
    // Within the error of 8 bits, the product of the values that dequantize gives.
    std::vector<float> values(w.size());
    layer.dequantize(MatrixView<float>(values.data(), kRows, kInner));
    for (std::int64_t i = 0; i < 3 * kRows; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < kInner; ++k) {
        sum += double{x[static_cast<std::size_t>(i / kRows * kInner + k)]} *
               double{values[static_cast<std::size_t>(i % kRows * kInner + k)]};
      }
      CHECK(std::fabs(sum - double{y[static_cast<std::size_t>(i)]}) < 0.1);
    }
  }
}

TEST_CASE("four bits: codes, scales and zero points that cannot be are refused") {
  Context context;
  const std::vector<std::uint8_t> codes(2 * 64, 9);
  const std::vector<float> scales(2, 0.5f);
  const std::vector<std::uint8_t> zeros(2, 8);
  const auto with = [&](const std::vector<std::uint8_t>& c, const std::vector<float>& s,
                        const std::vector<std::uint8_t>& z, std::int64_t block,
                        WeightFormat format = WeightFormat::int4_group) {
    return code_of([&] {
      (void)PackedWeights::from_codes(context,
                                      {.format = format,
                                       .codes = MatrixView<const std::uint8_t>(c.data(), 2, 64),
                                       .scales = s,
                                       .zero_points = z,
                                       .block = block});
    });
  };
  CHECK(with(codes, scales, zeros, 64) == ErrorCode::ok);
  CHECK(with(codes, scales, {}, 64) == ErrorCode::ok);
  CHECK(with(codes, scales, zeros, 32) == ErrorCode::shape_mismatch);
  CHECK(with(codes, scales, {8}, 64) == ErrorCode::shape_mismatch);
  CHECK(with(codes, scales, zeros, 48) == ErrorCode::invalid_argument);
  CHECK(with(codes, scales, {8, 17}, 64) == ErrorCode::invalid_argument);
  CHECK(with(codes, {0.5f, NAN}, zeros, 64) == ErrorCode::invalid_argument);
  CHECK(with(codes, {0.5f, INFINITY}, zeros, 64) == ErrorCode::invalid_argument);
  CHECK(with(codes, {0.5f, 0.1f}, zeros, 64) == ErrorCode::invalid_argument);  // not fp16
  CHECK(with(codes, {0.5f, 0.1f}, {}, 64, WeightFormat::nf4) == ErrorCode::ok);
  CHECK(with(codes, {0.5f, -0.1f}, {}, 64, WeightFormat::nf4) == ErrorCode::ok);  // nested ones
  CHECK(with(codes, {0.5f, -INFINITY}, {}, 64, WeightFormat::nf4) == ErrorCode::invalid_argument);
  CHECK(with(codes, scales, zeros, 64, WeightFormat::nf4) == ErrorCode::invalid_argument);
  CHECK(with(codes, scales, zeros, 64, WeightFormat::float16) == ErrorCode::unsupported);
  std::vector<std::uint8_t> large = codes;
  large.back() = 16;
  CHECK(with(large, scales, zeros, 64) == ErrorCode::invalid_argument);
  CHECK(code_of([&] {
          const std::vector<float> w(64, 1.0f);
          (void)PackedWeights::quantize(view(w, 1, 64), WeightFormat::nf4, {.zero_points = true});
        }) == ErrorCode::invalid_argument);
}

TEST_CASE("four bits: blocks of zeros, of one value, with a NaN; scales stay what fp16 holds") {
  Context context;
  for (const bool zero_points : {false, true}) {
    std::vector<float> w(4 * 64, 0.0f);
    for (std::size_t i = 0; i < 64; ++i) {
      w[64 + i] = 3.0f;
      w[128 + i] = i == 5 ? NAN : 1.0f;
      w[192 + i] = i == 5 ? 3.0e38f : -3.0e38f;
    }
    const auto packed = PackedWeights::quantize(context, view(w, 4, 64), WeightFormat::int4_group,
                                                {.block = 64, .zero_points = zero_points});
    std::vector<float> back(w.size());
    packed.dequantize(MatrixView<float>(back.data(), 4, 64));
    for (std::size_t i = 0; i < 64; ++i) {
      CHECK(back[i] == 0.0f);
      CHECK(std::fabs(back[64 + i] - 3.0f) <= (zero_points ? 2e-3f : 0.21f));
      CHECK(std::isnan(back[128 + i]));
      CHECK(std::fabs(back[192 + i]) <= 65504.0f * 15.0f);  // fp16 has no larger scale
    }
    std::vector<float> scales;
    std::vector<std::uint8_t> zeros;
    packed.unpack_scales(0, scales, zeros);
    CHECK((scales == std::vector<float>{1.0f}));
    CHECK(zeros.size() == (zero_points ? 1u : 0u));
  }
  for (const WeightFormat format : {WeightFormat::nf4, WeightFormat::fp4}) {
    std::vector<float> w(2 * 96, 0.0f);
    w[150] = INFINITY;
    const auto packed = PackedWeights::quantize(context, view(w, 2, 96), format);
    std::vector<float> back(w.size());
    packed.dequantize(MatrixView<float>(back.data(), 2, 96));
    for (std::size_t i = 0; i < w.size(); ++i) {
      CHECK((i >= 128 ? std::isnan(back[i]) : back[i] == 0.0f));
    }
  }
}

}  // namespace kvant::test
