// Every file of tests/data/safetensors gets the verdict that is in verdicts.json, mapped, read,
// and from memory; good files give their tensors bit for bit.

#include <nlohmann/json.hpp>

#include <cstring>
#include <map>
#include <set>
#include <string>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/byte_order.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"
#include "support/sha256.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::io::SafeTensors;
using kvant::test::read_bytes;

const std::filesystem::path kGoldenFolder = kvant::test::kData / "safetensors";

const nlohmann::json& verdicts() {
  static const nlohmann::json all =
      nlohmann::json::parse(kvant::test::read_text(kGoldenFolder / "verdicts.json"));
  return all;
}

/// "none", or the kind of the error; its message goes to `message`.
template <class Open>
std::string outcome(Open open, std::string& message) {
  message.clear();
  try {
    open();
    return "none";
  } catch (const kvant::io::FormatError& error) {
    message = error.what();
    const auto expected = error.kind() == kvant::io::FormatErrorKind::unsupported
                              ? kvant::ErrorCode::unsupported
                              : kvant::ErrorCode::invalid_file;
    if (error.code() != expected) return "wrong code";
    return kvant::io::to_string(error.kind());
  }
}

/// json and structure are one class in the golden data, and so are missing and superfluous bytes;
/// json_or_utf8 means either of them.
bool same_kind(const std::string& got, const std::string& expected) {
  const auto in = [](const std::string& s, std::set<std::string> set) { return set.contains(s); };
  if (got == expected) return true;
  if (expected == "json_or_utf8") return in(got, {"json", "utf8"});
  if (expected == "incomplete") return got == "trailing_bytes";  // too many bytes, there
  return in(got, {"json", "structure"}) && in(expected, {"json", "structure"});
}

/// Of a tensor's bytes as the file has them.
std::string hash_of(const kvant::io::TensorView& view) {
  const kvant::DType dtype = view.info->dtype;
  const auto bits = static_cast<std::size_t>(kvant::describe(dtype).bits);
  const std::size_t size =
      dtype == kvant::DType::complex64 ? 4 : std::max<std::size_t>(bits / 8, 1);
  return kvant::test::sha256(kvant::test::turned(view.data, size));
}

void check_tensors(const SafeTensors& file, const nlohmann::json& expected) {
  REQUIRE(file.tensors().size() == expected.size());
  for (const nlohmann::json& want : expected) {
    const auto name = want.at("name").get<std::string>();
    INFO("tensor " << name.substr(0, 50));
    REQUIRE(file.contains(name));
    const kvant::io::TensorView view = file.tensor(name);
    CHECK(view.info->name == name);
    CHECK(kvant::describe(view.info->dtype).safetensors == want.at("dtype").get<std::string>());
    CHECK(view.info->shape == want.at("shape").get<std::vector<std::uint64_t>>());
    CHECK(view.data.size() == want.at("nbytes").get<std::size_t>());
    CHECK(hash_of(view) == want.at("sha256").get<std::string>());
  }
}

}  // namespace

TEST_CASE("sha256 gives the standard's examples") {
  const std::string abc = "abc";
  CHECK(kvant::test::sha256(std::as_bytes(std::span(abc))) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(kvant::test::sha256({}) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("every golden safetensors file gets its verdict") {
  int good = 0;
  int bad = 0;
  for (const nlohmann::json& entry : verdicts().at("files")) {
    const auto path = kGoldenFolder / entry.at("file").get<std::string>();
    const bool accept = entry.at("kvant") == "accept";
    const std::string expected = accept ? "none" : entry.at("kvant_kind").get<std::string>();
    INFO(path.string() << ": " << entry.at("defect").get<std::string>());
    // An allocation of exactly the file's size: AddressSanitizer sees a read past its end.
    const std::vector<std::byte> bytes = read_bytes(path);
    std::string message;
    CHECK(same_kind(outcome([&] { (void)SafeTensors::from_bytes(bytes); }, message), expected));
    INFO(message);
    CHECK(accept == message.empty());
    for (const auto mode : {kvant::io::LoadMode::map, kvant::io::LoadMode::read}) {
      std::string disk_message;
      CHECK(same_kind(outcome([&] { (void)SafeTensors(path, mode); }, disk_message), expected));
      if (!accept) CHECK(disk_message.find(path.string()) == 0);  // the file is named first
    }
    if (accept && entry.contains("tensors")) {
      ++good;
      const SafeTensors mapped(path);
      check_tensors(mapped, entry.at("tensors"));
      check_tensors(SafeTensors(path, kvant::io::LoadMode::read), entry.at("tensors"));
      check_tensors(SafeTensors::from_bytes(bytes), entry.at("tensors"));
      const auto metadata = entry.value("metadata", std::map<std::string, std::string>());
      CHECK(mapped.metadata() == metadata);
    }
    bad += accept ? 0 : 1;
  }
  CHECK(good >= 20);
  CHECK(bad >= 160);
}

TEST_CASE("messages name the tensor and the rule") {
  const auto message_of = [](const char* name) {
    std::string message;
    outcome(
        [&] { (void)SafeTensors(kGoldenFolder / "bad" / (std::string(name) + ".safetensors")); },
        message);
    return message;
  };
  using Catch::Matchers::Contains;
  CHECK_THAT(message_of("hole_in_middle"), Contains("tensor \"") && Contains("(hole)"));
  CHECK_THAT(message_of("overlap_1_byte"), Contains("tensor \"") && Contains("(overlap)"));
  CHECK_THAT(message_of("dtype_unknown_gguf"), Contains("tensor \"") && Contains("unknown dtype"));
  CHECK_THAT(message_of("size_too_small"), Contains("I32 [2, 2] needs 16"));
  CHECK_THAT(message_of("f4_misaligned"), Contains("F4 [1, 3] is 12 bits"));
  CHECK_THAT(message_of("shape_overflow"), Contains("tensor \"") && Contains("overflows"));
  CHECK_THAT(message_of("dup_shape"),
             Contains("tensor \"") && Contains("\"shape\" is there twice"));
  CHECK_THAT(message_of("offsets_three"), Contains("data_offsets has 3 elements"));
  CHECK_THAT(message_of("json_nul_padding"), Contains("NUL"));
}

TEST_CASE("half and float8 tables come back as the types say") {
  const SafeTensors half(kGoldenFolder / "good/half_specials.safetensors");
  const auto compare = [&]<class T>(const std::string& name, T) {
    const auto codes = half.values<T>(name + ".code");
    const auto floats = half.values<float>(name + ".f32");
    REQUIRE(codes.size() == floats.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const float value = static_cast<float>(codes[i]);
      if (floats[i] != floats[i]) {
        CHECK(value != value);
      } else {
        CHECK(std::bit_cast<std::uint32_t>(value) == std::bit_cast<std::uint32_t>(floats[i]));
      }
    }
  };
  compare("F16", kvant::float16{});
  compare("BF16", kvant::bfloat16{});
}

TEST_CASE("every golden index gets its verdict") {
  for (const nlohmann::json& entry : verdicts().at("indexes")) {
    const auto path = kGoldenFolder / entry.at("file").get<std::string>();
    INFO(path.string() << ": " << entry.at("defect").get<std::string>());
    const std::string expected = entry.at("kvant_kind").get<std::string>();
    std::string message;
    std::vector<kvant::io::Warning> warnings;
    const std::string got =
        outcome([&] { warnings = kvant::io::Checkpoint(path).warnings(); }, message);
    INFO(message);
    CHECK(same_kind(got, expected));
    if (entry.contains("warn")) CHECK(entry.at("warn").get<bool>() == !warnings.empty());
    if (!entry.contains("tensors")) continue;
    const kvant::io::Checkpoint model(path);
    for (const nlohmann::json& want : entry.at("tensors")) {
      const auto view = model.tensor(want.at("name").get<std::string>());
      CHECK(hash_of(view) == want.at("sha256").get<std::string>());
    }
  }
}

TEST_CASE("checkpoint options: strict and allow_missing") {
  const auto open = [](const char* file, kvant::io::CheckpointOptions options) {
    std::string message;
    return outcome([&] { (void)kvant::io::Checkpoint(kGoldenFolder / "sharded" / file, options); },
                   message);
  };
  CHECK(open("ok_unmapped_tensor.index.json", {.strict = true}) == "structure");
  CHECK(open("bad_tensor_missing.index.json", {.allow_missing = true}) == "none");
  CHECK(open("bad_tensor_wrong_shard.index.json", {.allow_missing = true}) == "missing_tensor");
  const kvant::io::Checkpoint folder(kGoldenFolder / "sharded");
  CHECK(folder.files().size() == 3);
  CHECK(folder.matrix<float>("embed.weight").rows() == 4);
}

TEST_CASE("writing what was read gives the reference writer's bytes") {
  // One metadata key at most: the reference writes several in no fixed order.
  for (const char* name :
       {"dtypes_torch", "dtypes_numpy", "fp8_tables", "half_specials", "empty"}) {
    const std::vector<std::byte> bytes =
        read_bytes(kGoldenFolder / "good" / (std::string(name) + ".safetensors"));
    const SafeTensors file = SafeTensors::from_bytes(bytes);
    kvant::io::SafeTensorsWriter writer;
    for (const auto& info : file.tensors()) {
      writer.add(info.name, info.dtype, info.shape, file.tensor(info.name).data);
    }
    for (const auto& [key, value] : file.metadata()) writer.set_metadata(key, value);
    INFO(name);
    CHECK(writer.to_bytes() == bytes);
  }
}
