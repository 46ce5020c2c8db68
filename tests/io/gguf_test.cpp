// GGUF: golden blocks of every type by gguf-py and ggml, every type of value, malformed files with
// verdicts, truncation at every byte.

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/gguf.hpp"
#include "kvant/io/safetensors.hpp"
#include "support/byte_order.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::io::Gguf;
using kvant::test::code_of;
using kvant::test::read_bytes;
using kvant::test::turned;
using nlohmann::json;

const std::filesystem::path kGgufFolder = kvant::test::kData / "gguf";

/// The same bits; a NaN is a NaN.
bool same(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

TEST_CASE("gguf: golden blocks of every type, bit for bit") {
  int types = 0;
  for (const char* name : {"golden.safetensors", "golden_ggml.safetensors"}) {
    const kvant::io::SafeTensors golden(kGgufFolder / name);
    for (const kvant::io::GgufType& type : kvant::io::gguf_types()) {
      const std::string raw = std::string(type.name) + ".raw";
      if (!golden.contains(raw) || type.dequantize == nullptr) continue;
      ++types;
      const auto in_file = golden.values<std::uint8_t>(raw);
      // Plain elements are the machine's own.
      const auto blocks = turned(std::as_bytes(std::span(in_file)), type.dtype ? type.bytes : 1);
      const auto expected = golden.values<float>(std::string(type.name) + ".f32");
      REQUIRE(blocks.size() / type.bytes * type.elements == expected.size());
      std::vector<float> got(expected.size());
      for (std::size_t b = 0; b < blocks.size() / type.bytes; ++b) {
        type.dequantize(blocks.data() + b * type.bytes, got.data() + b * type.elements);
      }
      std::size_t different = 0;
      for (std::size_t i = 0; i < got.size(); ++i) different += !same(got[i], expected[i]);
      INFO(type.name);
      CHECK(different == 0);
    }
  }
  CHECK(types == 28);
}

TEST_CASE("gguf: every type of value, and the tensors") {
  const Gguf file(kGgufFolder / "tiny.gguf");
  const json expected = json::parse(kvant::test::read_text(kGgufFolder / "tiny.json"));
  std::vector<std::string> keys;
  for (const json& pair : expected.at("kv")) {
    const auto key = pair.at("key").get<std::string>();
    const auto type = pair.at("type").get<std::string>();
    const json& value = pair.at("value");
    keys.push_back(key);
    INFO(key);
    CHECK(file.has(key));
    if (type == "string") {
      CHECK(file.text(key) == value.get<std::string>());
      CHECK_FALSE(file.integer(key).has_value());
    } else if (type == "bool") {
      CHECK(file.boolean(key) == value.get<bool>());
    } else if (type == "f32" || type == "f64") {
      CHECK(file.number(key) == value.get<double>());
    } else if (type == "u64") {
      CHECK_FALSE(file.integer(key).has_value());  // 2^64 - 1 does not fit
    } else if (type == "i64") {
      CHECK(file.integer(key) == std::stoll(value.get<std::string>()));
    } else if (type != "array") {
      CHECK(file.integer(key) == value.get<std::int64_t>());
    } else if (pair.at("element_type") == "string") {
      const auto texts = file.texts(key);
      REQUIRE(texts.has_value());
      CHECK(std::vector<std::string>(texts->begin(), texts->end()) ==
            value.get<std::vector<std::string>>());
    } else if (!value.empty() && value[0].is_number()) {
      CHECK(file.numbers(key) == value.get<std::vector<double>>());
    }
  }
  const auto found = file.keys();
  CHECK(std::vector<std::string>(found.begin(), found.end()) == keys);
  CHECK_FALSE(file.has("no.such.key"));
  CHECK(file.metadata().at("general.architecture") == "demo");
  for (const kvant::io::TensorInfo& info : file.tensors()) {
    const kvant::io::GgufTensor* tensor = file.find_gguf(info.name);
    REQUIRE(tensor != nullptr);
    if (tensor->type->dequantize == nullptr || tensor->shape.size() != 2) continue;
    std::vector<float> row(static_cast<std::size_t>(tensor->shape[1]));
    CHECK_NOTHROW(file.dequantize(info.name, 0, 1, row.data()));
    CHECK(code_of([&] {
            file.dequantize(info.name, static_cast<std::int64_t>(tensor->shape[0]), 1, row.data());
          }) == kvant::ErrorCode::out_of_range);
  }
  CHECK(code_of([&] { file.dequantize("nothing", 0, 1, nullptr); }) ==
        kvant::ErrorCode::invalid_argument);
}

TEST_CASE("gguf: malformed files") {
  const json verdicts = json::parse(kvant::test::read_text(kGgufFolder / "verdicts.json"));
  int files = 0;
  for (const json& verdict : verdicts.at("files")) {
    const auto name = verdict.at("file").get<std::string>();
    INFO(name << ": " << verdict.at("defect").get<std::string>());
    const bool accepted = code_of([&] { Gguf file(kGgufFolder / name); }) == kvant::ErrorCode::ok;
    CHECK(accepted == (verdict.at("kvant") == "accept"));
    ++files;
  }
  CHECK(files == 117);
}

TEST_CASE("gguf: cut anywhere, and with any byte changed, it is a file or an error") {
  const std::vector<std::byte> whole = read_bytes(kGgufFolder / "tiny.gguf");
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part(whole.begin(),
                                      whole.begin() + static_cast<std::ptrdiff_t>(size));
    accepted += code_of([&] { (void)Gguf::from_bytes(part); }) == kvant::ErrorCode::ok;
  }
  CHECK(accepted <= 32);  // where only the last padding is missing
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x7F, 0x80, 0xFF}) {
      std::vector<std::byte> changed = whole;
      changed[at] = static_cast<std::byte>(value);
      try {
        const Gguf file = Gguf::from_bytes(changed);
        for (const std::string_view key : file.keys()) {
          (void)file.texts(key);
          (void)file.numbers(key);
        }
      } catch (const kvant::Error&) {
        continue;
      }
    }
  }
}
