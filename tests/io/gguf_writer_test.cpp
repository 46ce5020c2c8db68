// Writing GGUF: ggml's reference bits, the search of the K types, and files that are read back.
// gguf-py itself reads what the converter writes in tests/models/convert_gguf_test.cpp.

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"
#include "kvant/io/safetensors.hpp"
#include "support/byte_order.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::io::find_gguf_type;
using kvant::io::Gguf;
using kvant::io::GgufType;
using kvant::io::GgufWriter;
using kvant::test::code_of;
using kvant::test::turned;

std::vector<std::byte> quantized(const GgufType& type, const std::vector<float>& values) {
  std::vector<std::byte> blocks(values.size() / type.elements * type.bytes);
  quantize_gguf(type, values.data(), 1, static_cast<std::int64_t>(values.size()), blocks.data(),
                "t");
  return blocks;
}

std::vector<float> expanded(const GgufType& type, const std::vector<std::byte>& blocks) {
  std::vector<float> values(blocks.size() / type.bytes * type.elements);
  for (std::size_t b = 0; b < blocks.size() / type.bytes; ++b) {
    type.dequantize(blocks.data() + b * type.bytes, values.data() + b * type.elements);
  }
  return values;
}

/// Root of the mean squared error over that of the values.
double relative_error(const GgufType& type, const std::vector<float>& values) {
  const std::vector<float> back = expanded(type, quantized(type, values));
  double error = 0;
  double power = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = static_cast<double>(values[i]);
    error += (static_cast<double>(back[i]) - value) * (static_cast<double>(back[i]) - value);
    power += value * value;
  }
  return std::sqrt(error / power);
}

}  // namespace

TEST_CASE("gguf quantizers: the bits of ggml's reference") {
  const kvant::io::SafeTensors golden(kvant::test::kData / "gguf/quantize.safetensors");
  int types = 0;
  for (const GgufType& type : kvant::io::gguf_types()) {
    const std::string raw = std::string(type.name) + ".raw";
    if (type.quantize == nullptr || !golden.contains(raw)) continue;
    INFO(type.name);
    ++types;
    const auto expected = golden.values<std::uint8_t>(raw);
    const auto values = golden.values<float>(std::string(type.name) + ".in");
    std::vector<std::byte> got(expected.size());
    REQUIRE(values.size() / type.elements * type.bytes == expected.size());
    for (std::size_t b = 0; b < values.size() / type.elements; ++b) {
      type.quantize(values.data() + b * type.elements, got.data() + b * type.bytes);
    }
    const auto in_file = turned(got, type.dtype ? type.bytes : 1);
    CHECK(std::memcmp(in_file.data(), expected.data(), got.size()) == 0);
  }
  CHECK(types == 7);  // F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0
}

TEST_CASE("gguf quantizers: K types leave no more error than ggml's search") {
  // Errors of ggml's quantize_row_q*_K_ref on the same values: normally distributed ones, and ones
  // with outliers. kvant's may not be larger.
  std::mt19937 random(7);
  std::vector<float> plain(256 * 64);
  for (float& v : plain) {  // a sum of twelve: the same on every standard library
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<float>(random() >> 8) * 0x1p-24f;
    v = 0.02f * sum;
  }
  std::vector<float> spiky = plain;
  for (std::size_t i = 0; i < spiky.size(); i += 97) spiky[i] *= 9;
  const auto check = [&](const char* name, double plain_limit, double spiky_limit) {
    const GgufType& type = *find_gguf_type(name);
    INFO(name);
    CHECK(relative_error(type, plain) <= plain_limit);
    CHECK(relative_error(type, spiky) <= spiky_limit);
  };
  check("q4_k", 0.070618, 0.091704);
  check("q5_k", 0.035716, 0.046384);
  check("q6_k", 0.017532, 0.027249);
}

TEST_CASE("gguf quantizers: blocks of every kind come back as finite values near what they were") {
  const std::vector<float> zeros(256, 0.0f);
  std::vector<float> tiny(256, 0.0f);
  for (std::size_t i = 0; i < tiny.size(); ++i) tiny[i] = 1e-44f * static_cast<float>(i % 5);
  std::vector<float> largest(256, 65504.0f);
  for (std::size_t i = 0; i < largest.size(); i += 2) largest[i] = -65504.0f;
  const std::vector<float> same(256, 3.0f);
  const std::vector<float> negative(256, -3.0f);
  for (const GgufType& type : kvant::io::gguf_types()) {
    if (type.quantize == nullptr) continue;
    INFO(type.name);
    for (const float v : expanded(type, quantized(type, zeros))) CHECK(v == 0.0f);
    for (const float v : expanded(type, quantized(type, tiny))) CHECK(std::fabs(v) <= 1e-6f);
    for (const std::vector<float>* values : {&std::as_const(largest), &same, &negative}) {
      const std::vector<float> back = expanded(type, quantized(type, *values));
      double worst = 0;
      for (std::size_t i = 0; i < back.size(); ++i) {
        worst = std::max(worst, static_cast<double>(std::fabs(back[i] / (*values)[i] - 1)));
      }
      CHECK(worst <= 0.15);  // a symmetric code has one value less on one side
    }
    for (const float bad : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
      std::vector<float> values = same;
      values[77] = bad;
      CHECK(code_of([&] { (void)quantized(type, values); }) == kvant::ErrorCode::not_finite);
    }
  }
  CHECK(code_of([&] { (void)quantized(*find_gguf_type("q4_0"), std::vector<float>(33)); }) ==
        kvant::ErrorCode::invalid_argument);
  CHECK(code_of([&] { (void)quantized(*find_gguf_type("iq4_nl"), zeros); }) ==
        kvant::ErrorCode::invalid_argument);
  CHECK(find_gguf_type("q9_9") == nullptr);
}

TEST_CASE("gguf writer: every type of value and the tensors are read back") {
  const kvant::test::TempFolder folder;
  const auto path = folder.path() / "out.gguf";
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  {
    GgufWriter writer(path);
    writer.set("general.architecture", "demo");
    writer.set("a.u32", std::uint32_t{7});
    writer.set("a.i32", std::int32_t{-7});
    writer.set("a.u64", std::uint64_t{1} << 40);
    writer.set("a.f32", 0.25f);
    writer.set("a.bool", true);
    writer.set("a.texts", std::vector<std::string>{"x", "", "\xC4\xA0"});
    writer.set("a.ints", std::vector<std::int32_t>{1, -2});
    writer.set("a.bytes", std::vector<std::uint8_t>{0, 7, 255});
    writer.set("a.floats", std::vector<float>{0.5f});
    writer.add_tensor("t", *find_gguf_type("f32"), {2, 3});
    writer.add_tensor("q", *find_gguf_type("q8_0"), {1, 64});
    writer.add_tensor("scalar", *find_gguf_type("f32"), {});
    CHECK(code_of([&] { writer.set("a.u32", 1.0f); }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] { writer.set("", 1.0f); }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] { writer.set("\xFF", 1.0f); }) == kvant::ErrorCode::invalid_argument);
    const GgufType& q4 = *find_gguf_type("q4_0");
    CHECK(code_of([&] { writer.add_tensor("t", q4, {32}); }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] { writer.add_tensor("u", q4, {33}); }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] { writer.add_tensor(std::string(64, 'n'), q4, {32}); }) ==
          kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] {
            writer.add_tensor("u", q4, {1, 1, 1, 1, 32});
          }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] {
            writer.add_tensor("u", q4, {std::uint64_t{1} << 40, std::uint64_t{1} << 40});
          }) == kvant::ErrorCode::out_of_range);
    CHECK(code_of([&] { writer.write("t", 0, {}); }) == kvant::ErrorCode::invalid_argument);
    writer.begin();
    CHECK(code_of([&] { writer.begin(); }) == kvant::ErrorCode::invalid_argument);
    CHECK(code_of([&] { writer.set("later", 1.0f); }) == kvant::ErrorCode::invalid_argument);
    writer.write("t", 0, std::as_bytes(std::span(values)));
    CHECK(code_of([&] { writer.write("t", 4, std::as_bytes(std::span(values))); }) ==
          kvant::ErrorCode::out_of_range);
    CHECK(code_of([&] { writer.write("none", 0, {}); }) == kvant::ErrorCode::invalid_argument);
    CHECK_FALSE(std::filesystem::exists(path));
    writer.commit();
  }
  const Gguf file(path);
  CHECK(file.text("general.architecture") == "demo");
  CHECK(file.integer("a.u32") == 7);
  CHECK(file.integer("a.i32") == -7);
  CHECK(file.integer("a.u64") == std::int64_t{1} << 40);
  CHECK(file.number("a.f32") == 0.25);
  CHECK(file.boolean("a.bool") == true);
  CHECK(file.texts("a.texts") == std::vector<std::string_view>{"x", "", "\xC4\xA0"});
  CHECK(file.numbers("a.ints") == std::vector<double>{1, -2});
  CHECK(file.numbers("a.bytes") == std::vector<double>{0, 7, 255});
  CHECK(file.numbers("a.floats") == std::vector<double>{0.5});
  CHECK(file.find_gguf("t")->shape == std::vector<std::uint64_t>{2, 3});
  CHECK(file.find_gguf("scalar")->shape.empty());
  std::vector<float> row(3);
  file.dequantize("t", 1, 1, row.data());
  CHECK(row == std::vector<float>{4, 5, 6});
  CHECK(std::filesystem::file_size(path) % 32 == 0);
}

TEST_CASE("gguf writer: without commit nothing is left") {
  const kvant::test::TempFolder folder;
  {
    GgufWriter writer(folder.path() / "out.gguf");
    writer.begin();
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}
