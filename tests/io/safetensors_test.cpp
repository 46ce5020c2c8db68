// Cases made here: the table of malformed headers, views and their errors, the writer, the
// operating system's refusals, and the bound on single allocations.

#include "kvant/io/safetensors.hpp"

#include <sys/stat.h>

#include <cstring>
#include <random>
#include <string>

#include "io/largest_allocation.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/byte_order.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::SafeTensors;
using kvant::io::SafeTensorsWriter;
using kvant::test::code_of;

std::vector<std::byte> to_bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// A file of this header and as many data bytes.
std::string make_file(const std::string& header, std::size_t data_bytes) {
  std::string result(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    result[i] = static_cast<char>(static_cast<unsigned char>((header.size() >> (8 * i)) & 0xFF));
  }
  return result + header + std::string(data_bytes, 'd');
}

std::string kind_of(const std::string& file) {
  try {
    const std::vector<std::byte> bytes = to_bytes(file);
    kvant::test::largest_allocation() = 0;
    (void)SafeTensors::from_bytes(bytes);
    return "ok";
  } catch (const kvant::io::FormatError& error) {
    return kvant::io::to_string(error.kind());
  }
}

std::string header_kind(const std::string& header, std::size_t data_bytes = 0) {
  const std::string file = make_file(header, data_bytes);
  const std::string kind = kind_of(file);
  CHECK(kvant::test::largest_allocation() <= 8 * file.size() + 65536);
  return kind;
}

}  // namespace

TEST_CASE("safetensors: malformed lengths and headers") {
  for (std::size_t size = 0; size < 8; ++size)
    CHECK(kind_of(std::string(size, 'x')) == "too_small");
  CHECK(kind_of(std::string(8, '\xFF')) == "too_large");
  CHECK(header_kind("{") == "json");
  CHECK(header_kind("[]") == "json");
  CHECK(header_kind("null") == "json");
  CHECK(header_kind("\"x\"") == "json");
  CHECK(header_kind("") == "json");
  CHECK(header_kind("{}x") == "json");
  CHECK(header_kind(std::string("{}\0", 3)) == "json");
  CHECK(header_kind(std::string("{}\0}", 4)) == "json");
  CHECK(header_kind("\xEF\xBB\xBF{}") == "json");
  CHECK(header_kind(" \t\r\n{} ") == "ok");
  CHECK(header_kind("{}", 1) == "trailing_bytes");
  CHECK(header_kind(std::string(1'000'000, '[')) == "json");
  CHECK(header_kind("{\"a\":" + std::string(1'000'000, '[') + "}") == "structure");
  std::string deep = "{\"a\":{\"x\":";
  for (int i = 0; i < 100'000; ++i) deep += "{\"y\":";
  CHECK(header_kind(deep + "}") == "json");
}

TEST_CASE("safetensors: shapes") {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& range,
                      std::size_t bytes) {
    return header_kind("{\"t\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                           ",\"data_offsets\":" + range + "}}",
                       bytes);
  };
  CHECK(one("F32", "[0,9223372036854775808,4]", "[0,0]", 0) == "ok");
  CHECK(one("F32", "[9223372036854775808,4,0]", "[0,0]", 0) == "overflow");
  CHECK(one("F32", "[4294967296,4294967296,1]", "[0,0]", 0) == "overflow");
  CHECK(one("F32", "[4194305,4194305,211106198978564]", "[0,16]", 16) == "overflow");
  CHECK(one("F4", "[1,3]", "[0,2]", 2) == "misaligned");
  CHECK(one("F4", "[1,4]", "[0,2]", 2) == "ok");
  CHECK(one("F6_E2M3", "[3]", "[0,3]", 3) == "misaligned");
  CHECK(one("f32", "[1]", "[0,4]", 4) == "unsupported");
  CHECK(one("F32", "[1e0]", "[0,4]", 4) == "structure");
  CHECK(one("F32", "[1]", "[0,4]", 3) == "incomplete");
  CHECK(one("F32", "[1]", "[0,4]", 5) == "trailing_bytes");
}

TEST_CASE("safetensors: many tensors, long names, and the bound on allocations") {
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i) {
    many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[1]," +
            "\"data_offsets\":[" + std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  CHECK(header_kind(many + "}", 100'000) == "ok");
  const std::string entry = "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}";
  const std::string name(1'000'000, 'n');
  CHECK(header_kind("{\"" + name + "\":" + entry + "}", 1) == "ok");
  CHECK(header_kind("{\"" + name + "\":" + entry + "}", 2) == "trailing_bytes");
  std::string ones = "1";
  for (int i = 1; i < 200'000; ++i) ones += ",1";
  CHECK(header_kind("{\"a\":{\"dtype\":\"U8\",\"shape\":[" + ones + "],\"data_offsets\":[0,1]}}",
                    1) == "ok");
  std::string same = "{";
  for (int i = 0; i < 20'000; ++i) {
    same += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
            "\":{\"dtype\":\"U8\",\"shape\":[200,200],\"data_offsets\":[0,40000]}";
  }
  CHECK(header_kind(same + "}", 40'000) == "offset");
}

TEST_CASE("safetensors: random damage gives an error or a consistent view") {
  SafeTensorsWriter writer;
  const std::vector<float> values(12, 1.5f);
  writer.add("a.weight", kvant::MatrixView<const float>(values.data(), 3, 4));
  writer.add("b", kvant::MatrixView<const float>(values.data(), 1, 5));
  writer.set_metadata("format", "pt");
  const std::vector<std::byte> good = writer.to_bytes();
  constexpr unsigned kSeed = 20240607;
  std::mt19937 random(kSeed);
  INFO("seed " << kSeed);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> bytes = good;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random() & 0xFF);
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    try {
      const SafeTensors file = SafeTensors::from_bytes(bytes);
      unsigned sum = 0;
      for (const auto& info : file.tensors()) {
        for (const std::byte b : file.tensor(info.name).data) sum += std::to_integer<unsigned>(b);
      }
      CHECK(sum < 256 * bytes.size());
    } catch (const kvant::io::FormatError& error) {
      CHECK(std::strlen(error.what()) < 2000);
    }
  }
}

TEST_CASE("safetensors: matrices of unaligned tensors are aligned and right") {
  // A header of 9 mod 4 bytes puts the data at an odd place.
  std::string json =
      "{\"f\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
      "\"s\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[16,24]},"
      "\"r\":{\"dtype\":\"F32\",\"shape\":[1,1,1],\"data_offsets\":[24,28]},"
      "\"v\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[28,31]}}";
  while ((8 + json.size()) % 4 != 1) json += ' ';
  std::string text = make_file(json, 31);
  const float values[4] = {1, -2, 3.5f, 4};
  const double scalar = 0.25;
  const auto value_bytes = kvant::test::turned(std::as_bytes(std::span(values)), 4);
  const auto scalar_bytes = kvant::test::turned(std::as_bytes(std::span(&scalar, 1)), 8);
  std::memcpy(text.data() + 8 + json.size(), value_bytes.data(), 16);
  std::memcpy(text.data() + 8 + json.size() + 16, scalar_bytes.data(), 8);
  const std::vector<std::byte> bytes = to_bytes(text);
  const SafeTensors file = SafeTensors::from_bytes(bytes);
  const auto matrix = file.matrix<float>("f");
  CHECK(reinterpret_cast<std::uintptr_t>(matrix.data()) % alignof(float) == 0);
  CHECK(matrix.rows() == 2);
  CHECK(matrix(0, 1) == -2);
  CHECK(matrix(1, 0) == 3.5f);
  CHECK(file.matrix<double>("s")(0, 0) == 0.25);
  CHECK(file.matrix<std::int8_t>("v").cols() == 3);
  CHECK(file.values<float>("f") == std::vector<float>{1, -2, 3.5f, 4});
  CHECK(file.values<float>("r").size() == 1);
  CHECK(code_of([&] { (void)file.matrix<float>("r"); }) == ErrorCode::shape_mismatch);
  CHECK(code_of([&] { (void)file.matrix<kvant::float16>("f"); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { (void)file.matrix<float>("g"); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { (void)file.values<int>("f"); }) == ErrorCode::invalid_argument);
  file.release("f");
  CHECK(file.matrix<float>("f")(1, 1) == 4);
  CHECK_THROWS_WITH(file.matrix<float>("s"), Catch::Matchers::Contains("F64 [], not float32"));
}

TEST_CASE("safetensors: what the operating system refuses is an io error") {
  const kvant::test::TempFolder folder;
  CHECK(code_of([&] { SafeTensors file(folder.path() / "missing"); }) == ErrorCode::io);
  CHECK(code_of([&] { SafeTensors file(folder.path()); }) == ErrorCode::io);
  CHECK(code_of([&] { kvant::io::Checkpoint model(folder.path()); }) == ErrorCode::io);
  CHECK(code_of([&] { kvant::io::Checkpoint model(folder.path() / "missing"); }) == ErrorCode::io);
  const auto fifo = folder.path() / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(code_of([&] { SafeTensors file(fifo); }) == ErrorCode::io);  // and does not hang
}

TEST_CASE("safetensors writer: what cannot be written is refused, and nothing is left behind") {
  const kvant::test::TempFolder folder;
  const std::vector<float> values(6, 2.0f);
  const kvant::MatrixView<const float> matrix(values.data(), 2, 3);
  SafeTensorsWriter writer;
  writer.add("w", matrix);
  CHECK(code_of([&] { writer.add("w", matrix); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { writer.add("__metadata__", matrix); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { writer.add("\xFF", matrix); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { writer.add("x", kvant::DType::int4, {2}, {}); }) == ErrorCode::unsupported);
  CHECK(code_of([&] {
          writer.add("x", kvant::DType::float32, {2, 2}, std::as_bytes(std::span(values)));
        }) == ErrorCode::shape_mismatch);
  CHECK(code_of([&] { writer.add("x", kvant::MatrixView<const float>(values.data(), 2, 2, 3)); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([&] { writer.write(folder.path() / "no" / "x"); }) == ErrorCode::io);
  if (std::filesystem::exists("/dev/full")) {
    CHECK(code_of([&] { writer.write("/dev/full"); }) == ErrorCode::io);
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("safetensors writer: replaces a file that is mapped, and keeps a symlink a symlink") {
  const kvant::test::TempFolder folder;
  const auto path = folder.path() / "out.safetensors";
  const std::vector<float> ones(100, 1.0f);
  SafeTensorsWriter first;
  first.add("w", kvant::MatrixView<const float>(ones.data(), 10, 10));
  first.set_metadata("b", "2\n\"");
  first.set_metadata("a", "1");
  first.write(path);
  const auto link = folder.path() / "link";
  std::filesystem::create_symlink("out.safetensors", link);
  const SafeTensors mapped(path);
  SafeTensorsWriter second;  // writes the very tensors that are mapped, over their own file
  second.add("w", mapped.matrix<float>("w"));
  second.add("v", kvant::MatrixView<const float>(ones.data(), 1, 3));
  second.write(link);
  CHECK(mapped.matrix<float>("w")(9, 9) == 1.0f);
  CHECK(std::filesystem::is_symlink(link));
  const SafeTensors again(path);
  CHECK(again.tensors().size() == 2);
  CHECK(mapped.metadata() == std::map<std::string, std::string>{{"a", "1"}, {"b", "2\n\""}});
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);
}
