// SafeTensorsStream and CheckpointWriter: layout, shards, and folders that appear whole or not.

#include <nlohmann/json.hpp>

#include <cstring>
#include <string>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/checkpoint_writer.hpp"
#include "kvant/io/safetensors_stream.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folder_contents.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::io::CheckpointWriter;
using kvant::io::SafeTensorsStream;
using kvant::io::TensorSpec;
using kvant::test::code_of;
using kvant::test::entries_in;
using kvant::test::read_bytes;
using kvant::test::read_text;
using kvant::test::TempFolder;

std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> result(size);
  for (std::size_t i = 0; i < size; ++i) result[i] = static_cast<std::byte>(i * 7 + seed);
  return result;
}

const std::vector<TensorSpec> kTensors = {{"b.weight", DType::int8, {3, 5}},
                                          {"a.bias", DType::float32, {4}},
                                          {"a.flag", DType::uint8, {}},
                                          {"c.empty", DType::float16, {0, 8}},
                                          {"c.half", DType::bfloat16, {2, 2}}};

void write_all(CheckpointWriter& writer) {
  for (const TensorSpec& tensor : kTensors) {
    writer.write(tensor.name, 0, pattern(byte_size(tensor), 1));
  }
}

}  // namespace

TEST_CASE("SafeTensorsStream: the same file as SafeTensorsWriter, in any order and in pieces") {
  const TempFolder folder;
  kvant::io::SafeTensorsWriter whole;
  std::vector<std::vector<std::byte>> data;
  for (const TensorSpec& tensor : kTensors) data.push_back(pattern(byte_size(tensor), 3));
  for (std::size_t i = 0; i < kTensors.size(); ++i) {
    whole.add(kTensors[i].name, kTensors[i].dtype, kTensors[i].shape, data[i]);
  }
  whole.set_metadata("z", "1");
  whole.set_metadata("a", "\"quoted\"\n");
  whole.write(folder.path() / "whole");

  SafeTensorsStream stream(folder.path() / "stream", kTensors, {{"z", "1"}, {"a", "\"quoted\"\n"}});
  for (std::size_t i = kTensors.size(); i-- > 0;) {
    const std::span<const std::byte> bytes = data[i];
    const std::size_t half = bytes.size() / 2;
    stream.write(kTensors[i].name, half, bytes.subspan(half));
    stream.write(kTensors[i].name, 0, bytes.first(half));
  }
  CHECK_FALSE(fs::exists(folder.path() / "stream"));
  stream.commit();
  CHECK(read_bytes(folder.path() / "stream") == read_bytes(folder.path() / "whole"));
  CHECK(entries_in(folder.path()) == 2);
}

TEST_CASE("SafeTensorsStream: refusals leave nothing behind") {
  const TempFolder folder;
  const fs::path path = folder.path() / "file";
  const auto open = [&](std::vector<TensorSpec> tensors) {
    return code_of([&] { SafeTensorsStream(path, std::move(tensors)); });
  };
  CHECK(open({{"__metadata__", DType::int8, {1}}}) == ErrorCode::invalid_argument);
  CHECK(open({{"x", DType::int8, {1}}, {"x", DType::int8, {2}}}) == ErrorCode::invalid_argument);
  CHECK(open({{"\xff", DType::int8, {1}}}) == ErrorCode::invalid_argument);
  CHECK(open({{"x", DType::int4, {2}}}) == ErrorCode::unsupported);
  CHECK(open({{"x", DType::float32, {1ull << 40, 1ull << 40}}}) == ErrorCode::invalid_file);
  {
    SafeTensorsStream stream(path, kTensors);
    CHECK(code_of([&] { stream.write("none", 0, {}); }) == ErrorCode::invalid_argument);
    CHECK(code_of([&] { stream.write("a.bias", 8, pattern(9, 0)); }) == ErrorCode::out_of_range);
    CHECK(code_of([&] { stream.write("a.bias", 17, {}); }) == ErrorCode::out_of_range);
    std::string message;
    CHECK(code_of([&] { stream.commit(); }, &message) == ErrorCode::invalid_argument);
    CHECK(message.find("0 bytes were written") != std::string::npos);
  }
  CHECK(entries_in(folder.path()) == 0);
}

TEST_CASE("CheckpointWriter: shards of five digits, an index, and one file without") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  CheckpointWriter sharded(out, kTensors, {.max_shard_size = 20});
  write_all(sharded);
  sharded.add_file("config.json", "{}");
  CHECK_FALSE(fs::exists(out));
  sharded.commit();
  // By name: a.bias 16 + a.flag 1, b.weight 15 + c.empty 0, c.half 8.
  const std::vector<std::string> names = {"model-00001-of-00003.safetensors",
                                          "model-00002-of-00003.safetensors",
                                          "model-00003-of-00003.safetensors"};
  CHECK(sharded.shards() == names);
  const auto index = nlohmann::json::parse(read_text(out / "model.safetensors.index.json"));
  CHECK(index.at("metadata").at("total_size") == 40);
  CHECK(index.at("weight_map").at("a.flag") == names[0]);
  CHECK(index.at("weight_map").at("c.empty") == names[1]);
  CHECK(index.at("weight_map").at("c.half") == names[2]);
  const kvant::io::Checkpoint back(out, {.strict = true});
  CHECK(back.warnings().empty());
  CHECK(back.metadata().at("format") == "pt");
  for (const TensorSpec& tensor : kTensors) {
    const auto view = back.tensor(tensor.name).data;
    CHECK(std::vector<std::byte>(view.begin(), view.end()) == pattern(byte_size(tensor), 1));
  }

  CheckpointWriter single(folder.path() / "single", kTensors);
  write_all(single);
  single.commit();
  CHECK(entries_in(folder.path() / "single") == 1);
  CHECK(fs::exists(folder.path() / "single/model.safetensors"));
  CHECK(kvant::io::plan_shards(kTensors, 1).names.size() == 5);
  CHECK(code_of([] { (void)kvant::io::plan_shards({}, 0); }) == ErrorCode::invalid_argument);
}

TEST_CASE("CheckpointWriter: what is there is replaced by force only, and only checkpoints") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  const auto write = [&](bool force, const fs::path& source = {}) {
    CheckpointWriter writer(out, kTensors, {.force = force, .source = source});
    write_all(writer);
    writer.commit();
  };
  fs::create_directory(out);
  CHECK(code_of([&] { write(false); }) == ErrorCode::io);
  write(true);  // empty
  std::ofstream(out / "merges.txt") << "old";
  std::string message;
  CHECK(code_of([&] { write(false); }, &message) == ErrorCode::io);
  CHECK(message.find("--force") != std::string::npos);
  CHECK(fs::exists(out / "merges.txt"));
  {
    CheckpointWriter unfinished(out, kTensors, {.force = true});
    write_all(unfinished);
  }
  CHECK(fs::exists(out / "merges.txt"));
  CHECK(entries_in(folder.path()) == 1);
  write(true);
  CHECK_FALSE(fs::exists(out / "merges.txt"));
  CHECK(entries_in(folder.path()) == 1);

  // What is no part of a checkpoint is named, and stays, wherever it is.
  for (const char* strange : {"notes.txt", ".git/HEAD", "pytorch_model.bin", "runs/a/events"}) {
    fs::create_directories((out / strange).parent_path());
    std::ofstream(out / strange) << "mine";
    CHECK(code_of([&] { write(true); }, &message) == ErrorCode::io);
    CHECK(message.find(strange) != std::string::npos);
    CHECK(kvant::test::read_text(out / strange) == "mine");
    {
      CheckpointWriter known(out, kTensors, {.force = true, .replaceable = {strange}});
      write_all(known);
    }
    fs::remove_all(out / *fs::path(strange).begin());
  }
  // One that comes while the new folder is being written.
  {
    CheckpointWriter late(out, kTensors, {.force = true});
    write_all(late);
    std::ofstream(out / "notes.txt") << "mine";
    CHECK(code_of([&] { late.commit(); }, &message) == ErrorCode::io);
    CHECK(kvant::test::read_text(out / "notes.txt") == "mine");
  }
  fs::remove(out / "notes.txt");

  fs::remove(out / "model.safetensors");
  std::ofstream(out / "letters.txt") << "mine";
  CHECK(code_of([&] { write(true); }, &message) == ErrorCode::io);
  CHECK(fs::exists(out / "letters.txt"));
  // Never the source, nor a folder that holds it.
  std::ofstream(out / "model.safetensors") << "x";
  fs::create_directory(out / "inner");
  CHECK(code_of([&] { write(true, out); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { write(true, out / "inner"); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { write(true, out / "inner/.."); }) == ErrorCode::invalid_argument);
  fs::create_directory_symlink(out, folder.path() / "link");
  CHECK(code_of([&] { write(true, folder.path() / "link"); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { CheckpointWriter(folder.path() / "no/out", kTensors); }) == ErrorCode::io);
}

TEST_CASE("CheckpointWriter: sweeps up what a killed run left, and nothing else") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  for (const char* name :
       {"out.tmp4711.0", "out.tmp4711.0.mine", "out.tmp", "out.tmpx.1", "other.tmp1.0"}) {
    fs::create_directory(folder.path() / name);
  }
  folder.write("out.tmp4711.0/model.safetensors", "half");
  CheckpointWriter first(out, kTensors, {});
  CHECK(!fs::exists(folder.path() / "out.tmp4711.0"));
  CHECK(entries_in(folder.path()) == 5);
  {
    CheckpointWriter second(out, kTensors, {});  // the first is at work: its folder stays
    CHECK(entries_in(folder.path()) == 6);
  }
  write_all(first);
  first.commit();
  CHECK(fs::exists(out / "model.safetensors"));
  CHECK(entries_in(folder.path()) == 5);
}

TEST_CASE("CheckpointWriter: further files have names of their own, inside the folder") {
  const TempFolder folder;
  folder.write("extra", "text");
  CheckpointWriter writer(folder.path() / "out", kTensors, {});
  for (const char* name :
       {"../x", "a/../../x", "/x", "model.safetensors", "model.safetensors.index.json"}) {
    INFO(name);
    CHECK(code_of([&] { writer.copy_file(folder.path() / "extra", name); }) ==
          ErrorCode::invalid_argument);
  }
  CHECK(code_of([&] { writer.add_file("model.safetensors", "x"); }) == ErrorCode::invalid_argument);
  writer.copy_file(folder.path() / "extra", "a/b/c");
  writer.copy_file(folder.path() / "extra");
  write_all(writer);
  writer.commit();
  CHECK(kvant::test::read_text(folder.path() / "out/a/b/c") == "text");
  CHECK(kvant::test::read_text(folder.path() / "out/extra") == "text");
}
