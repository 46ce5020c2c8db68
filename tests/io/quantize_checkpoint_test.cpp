// quantize_checkpoint against what transformers and bitsandbytes wrote, and against itself.

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <list>
#include <set>
#include <string>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::io::Checkpoint;
using kvant::io::CheckpointSummary;
using kvant::io::FormatErrorKind;
using kvant::io::quantize_checkpoint;
using kvant::io::QuantizeCheckpointOptions;
using kvant::io::WeightScheme;
using kvant::test::code_of;
using kvant::test::config_of;
using kvant::test::kData;
using kvant::test::kFp32;
using kvant::test::read_bytes;
using kvant::test::read_text;
using kvant::test::TempFolder;
using nlohmann::json;

std::set<std::string> llm_int8_layers(const CheckpointSummary& summary) {
  std::set<std::string> result;
  for (const auto& layer : summary.layers) {
    if (layer.scheme == WeightScheme::llm_int8) result.insert(layer.name);
  }
  return result;
}

/// The tensors of one checkpoint equal those of the other, dtype, shape and bytes.
void check_equal_tensors(const Checkpoint& got, const Checkpoint& wanted) {
  REQUIRE(got.tensors().size() == wanted.tensors().size());
  for (const kvant::io::TensorInfo* info : wanted.tensors()) {
    INFO(info->name);
    const auto a = got.tensor(info->name);
    const auto b = wanted.tensor(info->name);
    CHECK(a.info->dtype == b.info->dtype);
    CHECK(a.info->shape == b.info->shape);
    CHECK(std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end()));
  }
}

/// A llama of one layer whose weights the test chooses.
class TinyModel {
 public:
  explicit TinyModel(const std::string& model_type = "llama") {
    folder_.write("config.json", "{\"model_type\": \"" + model_type + "\", \"vocab_size\": 6}");
  }
  void add(const std::string& name, std::vector<std::uint64_t> shape, std::vector<float> values) {
    values_.push_back(std::move(values));
    writer_.add(name, DType::float32, std::move(shape), std::as_bytes(std::span(values_.back())));
  }
  void add_bytes(const std::string& name, DType dtype, std::vector<std::uint64_t> shape,
                 std::vector<std::byte> bytes) {
    bytes_.push_back(std::move(bytes));
    writer_.add(name, dtype, std::move(shape), bytes_.back());
  }
  const fs::path& write() {
    writer_.write(folder_.path() / "model.safetensors");
    return folder_.path();
  }

 private:
  TempFolder folder_;
  std::list<std::vector<float>> values_;
  std::list<std::vector<std::byte>> bytes_;
  kvant::io::SafeTensorsWriter writer_;
};

}  // namespace

TEST_CASE("quantize_checkpoint: bitsandbytes' files, byte for byte") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  for (const char* name : {"bnb_int8", "bnb_int8_threshold0"}) {
    const fs::path golden = kData / "checkpoints" / name;
    QuantizeCheckpointOptions options;
    if (std::string(name) != "bnb_int8") options.scheme = WeightScheme::int8;
    options.job.force = true;
    const CheckpointSummary summary = quantize_checkpoint(kFp32, out, options);
    CHECK(read_bytes(out / "model.safetensors") == read_bytes(golden / "model.safetensors"));
    CHECK(read_text(out / "generation_config.json") ==
          read_text(golden / "generation_config.json"));
    // The config is theirs, but for the list that they leave to the next reader's guess.
    json wanted = config_of(golden);
    wanted["quantization_config"]["llm_int8_skip_modules"] = {"lm_head"};
    CHECK(read_text(out / "config.json") == wanted.dump(2) + "\n");
    CHECK(summary.layers.size() == 8);
    CHECK(summary.bytes_before == 293120);
    CHECK(summary.bytes_after == 111880);
    REQUIRE(summary.warnings.size() == 1);  // the logits beside the model are no part of it
    CHECK(summary.warnings[0].kind == kvant::io::WarningKind::not_copied);
    CHECK(summary.warnings[0].text.find("\"expected.safetensors\"") != std::string::npos);
  }
}

TEST_CASE("quantize_checkpoint: with the caller's kernels and threads") {
  const TempFolder folder;
  const kvant::Context context({.isa = "scalar", .executor = kvant::inline_executor()});
  for (const char* model : {"checkpoints/fp32", "architectures/gpt2/float"}) {
    const fs::path one = folder.path() / "one";
    const fs::path other = folder.path() / "other";
    for (const WeightScheme scheme : {WeightScheme::llm_int8, WeightScheme::bf16}) {
      quantize_checkpoint(kData / model, one, {.scheme = scheme, .job = {.force = true}});
      quantize_checkpoint(kData / model, other,
                          {.scheme = scheme, .job = {.force = true, .context = &context}});
      CHECK(read_bytes(one / "model.safetensors") == read_bytes(other / "model.safetensors"));
    }
  }
}

TEST_CASE("quantize_checkpoint: the layers that transformers chose, their codes and scales") {
  const json all = json::parse(read_text(kData / "architectures/architectures.json"));
  const TempFolder folder;
  for (const char* name : {"gpt2", "llama", "t5"}) {
    INFO(name);
    const fs::path out = folder.path() / name;
    const CheckpointSummary summary =
        quantize_checkpoint(kData / "architectures" / name / "float", out);
    const auto quantized = all.at(name).at("quantized_modules").get<std::set<std::string>>();
    CHECK(llm_int8_layers(summary) == quantized);
    CHECK(summary.skip_modules == all.at(name).at("kept_linears").get<std::vector<std::string>>());
    CHECK(config_of(out)["quantization_config"]["llm_int8_skip_modules"] ==
          all.at(name).at("kept_linears"));
    const Checkpoint got(out, {.strict = true});
    const Checkpoint wanted(kData / "architectures" / name / "bnb_int8");
    const Checkpoint original(kData / "architectures" / name / "float");
    REQUIRE(got.tensors().size() == wanted.tensors().size());
    for (const kvant::io::TensorInfo* info : wanted.tensors()) {
      INFO(info->name);
      // Kept tensors keep their stored dtype; transformers saves the one it loaded into.
      const auto a = got.tensor(info->name);
      const bool kept = original.contains(info->name) && info->dtype != DType::int8;
      const auto b = kept ? original.tensor(info->name) : wanted.tensor(info->name);
      CHECK(a.info->dtype == b.info->dtype);
      CHECK(a.info->shape == b.info->shape);
      CHECK(std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end()));
    }
  }
}

TEST_CASE("quantize_checkpoint: from fp16 shards, into shards, any number of threads") {
  const TempFolder folder;
  const fs::path model = kData / "checkpoints/fp16_sharded";
  const fs::path one = folder.path() / "one";
  const fs::path many = folder.path() / "many";
  quantize_checkpoint(model, one, {.job = {.threads = 1}});
  const CheckpointSummary summary =
      quantize_checkpoint(model, many, {.job = {.max_shard_size = 30'000, .threads = 5}});
  CHECK(summary.shards.size() >= 3);
  CHECK(fs::exists(many / "model.safetensors.index.json"));
  check_equal_tensors(Checkpoint(many, {.strict = true}), Checkpoint(one));
  // fp16 values survive the way through fp16: the codes are those of the fp32 original.
  const Checkpoint bnb(kData / "checkpoints/bnb_int8");
  const Checkpoint got(one);
  for (const std::string& module : kvant::io::int8_layers(bnb)) {
    const auto a = kvant::io::read_int8_layer(got, module);
    const auto b = kvant::io::read_int8_layer(bnb, module);
    CHECK(a.absmax == b.absmax);
    CHECK(std::equal(a.codes.data(), a.codes.data() + a.codes.size(), b.codes.data()));
  }
  CHECK_FALSE(fs::exists(one / "model.safetensors.index.json"));
  // Reshaped without a change: transformers' own shards come out.
  const fs::path again = folder.path() / "again";
  quantize_checkpoint(model, again,
                      {.scheme = WeightScheme::fp16, .job = {.max_shard_size = 110'000}});
  for (const char* shard :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    CHECK(read_bytes(again / shard) == read_bytes(model / shard));
  }
}

TEST_CASE("quantize_checkpoint: a scheme per layer, skipped layers, float schemes") {
  const TempFolder folder;
  const fs::path out = folder.path() / "mix";
  QuantizeCheckpointOptions options;
  options.rules = {{"transformer.h.0.*", WeightScheme::fp16},
                   {"*.h.0.mlp.c_proj", WeightScheme::keep}};
  quantize_checkpoint(kFp32, out, options);
  const Checkpoint mix(out);
  CHECK(mix.find("transformer.h.0.attn.c_attn.weight")->dtype == DType::float16);
  CHECK(mix.find("transformer.h.0.mlp.c_proj.weight")->dtype == DType::float32);
  CHECK(mix.find("transformer.h.1.mlp.c_proj.weight")->dtype == DType::int8);
  CHECK(mix.find("transformer.wte.weight")->dtype == DType::float32);
  CHECK(config_of(out)["quantization_config"]["llm_int8_skip_modules"] ==
        json({"lm_head", "transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj",
              "transformer.h.0.mlp.c_fc", "transformer.h.0.mlp.c_proj"}));

  const fs::path half = folder.path() / "half";
  quantize_checkpoint(kFp32, half, {.scheme = WeightScheme::bf16});
  check_equal_tensors(Checkpoint(half), Checkpoint(kData / "checkpoints/bf16"));
  CHECK(config_of(half) == config_of(kData / "checkpoints/bf16"));

  std::string message;
  const auto run = [&](const QuantizeCheckpointOptions& wrong) {
    return code_of([&] { quantize_checkpoint(kFp32, folder.path() / "no", wrong); }, &message);
  };
  CHECK(run({.rules = {{"*.h.7.*", WeightScheme::keep}}}) == ErrorCode::invalid_argument);
  CHECK(message.find("matches no linear layer") != std::string::npos);
  CHECK(run({.rules = {{"lm_head", WeightScheme::keep}}, .dry_run = true}) == ErrorCode::ok);
  CHECK(run({.rules = {{"*.h.0.*", WeightScheme::int8}}}) == ErrorCode::invalid_argument);
  CHECK(run({.threshold = -1}) == ErrorCode::invalid_argument);
  CHECK(run({.threshold = NAN}) == ErrorCode::invalid_argument);
  CHECK(run({.keep_outliers = {{"transformer.h.0.attn.c_attn", {3, 3}}}}) ==
        ErrorCode::invalid_argument);
  CHECK(run({.keep_outliers = {{"transformer.h.0.attn.c_attn", {64}}}}) ==
        ErrorCode::invalid_argument);
  CHECK(run({.keep_outliers = {{"lm_head", {1}}}}) == ErrorCode::invalid_argument);
  CHECK_FALSE(fs::exists(folder.path() / "no"));
}

TEST_CASE("quantize_checkpoint: kept columns are beside unchanged codes") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  const std::string module = "transformer.h.1.mlp.c_proj";
  QuantizeCheckpointOptions options;
  options.keep_outliers[module] = {2, 77, 159};
  options.outliers = kvant::Outliers::per_row;
  quantize_checkpoint(kFp32, out, options);
  const Checkpoint got(out);
  const Checkpoint bnb(kData / "checkpoints/bnb_int8");
  for (const kvant::io::TensorInfo* info : bnb.tensors()) {
    const auto a = got.tensor(info->name).data;
    const auto b = bnb.tensor(info->name).data;
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
  CHECK(got.tensors().size() == bnb.tensors().size() + 2);
  CHECK(kvant::io::stored_outliers(got) == kvant::Outliers::per_row);
  const auto stored = kvant::io::read_int8_layer(got, module);
  CHECK(stored.kept_columns == std::vector<std::int64_t>{2, 77, 159});
  REQUIRE(stored.kept_weights.rows == 64);
  const Checkpoint original(kFp32);
  const auto w = original.matrix<float>(module + ".weight");
  const auto* kept = static_cast<const kvant::float16*>(stored.kept_weights.data);
  for (std::int64_t r = 0; r < 64; ++r) {
    for (std::size_t k = 0; k < 3; ++k) {
      CHECK(static_cast<float>(kept[r * 3 + static_cast<std::int64_t>(k)]) ==
            static_cast<float>(kvant::float16(w(r, stored.kept_columns[k]))));
    }
  }
}

TEST_CASE("quantize_checkpoint: models that cannot be quantized") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  std::string message;
  const auto run = [&](const fs::path& model) {
    return code_of([&] { quantize_checkpoint(model, out); }, &message);
  };
  for (const char* name : {"bnb_int8", "bnb_fp4", "bnb_nf4_double"}) {
    CHECK(run(kData / "checkpoints" / name) == ErrorCode::unsupported);
    CHECK(message.find("quantized already") != std::string::npos);
  }
  CHECK(run(folder.path() / "none") == ErrorCode::io);
  CHECK(run(kFp32 / "model.safetensors") == ErrorCode::io);
  CHECK(run(kData / "safetensors") == ErrorCode::io);
  for (const float bad : {NAN, INFINITY, -1e5f}) {
    TinyModel model;
    model.add("model.layers.0.mlp.up_proj.weight", {2, 2}, {1, 2, bad, 3});
    CHECK(run(model.write()) == ErrorCode::not_finite);
    CHECK(message.find("up_proj") != std::string::npos);
    CHECK(message.find("output 1") != std::string::npos);
  }
  {
    TinyModel model;
    model.add("w", {2}, {1, 1e5f});
    CHECK(code_of([&] { quantize_checkpoint(model.write(), out, {.scheme = WeightScheme::fp16}); },
                  &message) == ErrorCode::not_finite);
    CHECK(message.find("bf16") != std::string::npos);
  }
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 0);
}

TEST_CASE("quantize_checkpoint: an unknown model_type is guessed, with a warning") {
  TinyModel model("novel");
  model.add("net.embed.weight", {6, 2}, std::vector<float>(12, 1));
  model.add("net.0.proj.weight", {3, 2}, std::vector<float>(6, 1));
  model.add("net.0.norm.weight", {2}, {1, 1});
  model.add("net.out.weight", {6, 2}, std::vector<float>(12, 1));  // a row per token
  const CheckpointSummary summary = quantize_checkpoint(model.write(), "unused", {.dry_run = true});
  CHECK(llm_int8_layers(summary) == std::set<std::string>{"net.0.proj"});
  REQUIRE(summary.warnings.size() == 1);
  CHECK(summary.warnings[0].kind == kvant::io::WarningKind::unknown_model);
  CHECK(summary.warnings[0].text.find("novel") != std::string::npos);
  // Ends of names are for a model that is loaded under other names; tables may be layers there.
  CHECK(summary.skip_modules ==
        std::vector<std::string>{"embed", "lm_head", "net.embed", "net.out", "out"});
}

TEST_CASE("quantize_checkpoint: bert's head, empty and zero weights") {
  TinyModel model("bert");
  model.add("bert.embeddings.word_embeddings.weight", {6, 2}, std::vector<float>(12, 1));
  model.add("bert.encoder.layer.0.attention.self.query.weight", {2, 2}, {0, 0, 1, -1});
  model.add("bert.encoder.layer.0.output.dense.weight", {0, 2}, {});
  model.add("cls.predictions.decoder.weight", {6, 2}, std::vector<float>(12, 1));
  model.add("cls.seq_relationship.weight", {2, 2}, {1, 2, 3, 4});
  model.add("cls.seq_relationship.bias", {2}, {0, 0});
  const TempFolder folder;
  const CheckpointSummary summary = quantize_checkpoint(model.write(), folder.path() / "out");
  CHECK(summary.skip_modules == std::vector<std::string>{"cls.predictions.decoder"});
  const Checkpoint got(folder.path() / "out");
  CHECK(kvant::io::int8_layers(got).size() == 3);  // with cls.seq_relationship
  const auto query = kvant::io::read_int8_layer(got, "bert.encoder.layer.0.attention.self.query");
  CHECK(query.absmax == std::vector<float>{0, 1});
  CHECK(query.codes(0, 0) == 0);
  CHECK(query.codes(1, 1) == -127);
}

TEST_CASE("int8-group checkpoints: codes that are no matrix are named, however few dimensions") {
  for (const std::vector<std::uint64_t>& shape :
       {std::vector<std::uint64_t>{}, {6}, {1, 2, 3}, {2, 3}}) {
    const bool matrix = shape.size() == 2;
    TinyModel model;
    model.add_bytes("a.q_proj.weight", DType::int8, shape,
                    std::vector<std::byte>(shape.empty() ? 1 : 6));
    model.add_bytes("a.q_proj.weight_scale", DType::float16, {2, 1}, std::vector<std::byte>(4));
    const fs::path folder = model.write();
    INFO(shape.size() << " dimensions");
    try {
      kvant::io::dequantize_checkpoint(folder, folder / "out");
      CHECK(matrix);
    } catch (const kvant::io::FormatError& error) {
      CHECK_FALSE(matrix);
      CHECK(error.kind() == kvant::io::FormatErrorKind::bad_scales);
      CHECK(std::string(error.what()).find("two dimensions") != std::string::npos);
    }
  }
}

TEST_CASE("int8 checkpoints: what cannot be is named") {
  const auto kind_of = [](auto fill) {
    TinyModel model;
    fill(model);
    const fs::path folder = model.write();
    std::vector<std::string> kinds;
    for (int by = 0; by < 3; ++by) {  // by all three ways in
      try {
        const Checkpoint checkpoint(folder);
        if (by == 0) {
          for (const auto& name : kvant::io::int8_layers(checkpoint)) {
            (void)kvant::io::read_int8_layer(checkpoint, name);
          }
        } else if (by == 1) {
          quantize_checkpoint(folder, folder / "out");
        } else {
          kvant::io::dequantize_checkpoint(folder, folder / "out");
        }
        kinds.push_back("none");
      } catch (const kvant::io::FormatError& error) {
        kinds.push_back(to_string(error.kind()));
      }
    }
    CHECK(kinds[0] == kinds[1]);
    CHECK(kinds[0] == kinds[2]);
    return kinds[0];
  };
  const auto codes = [](TinyModel& model) {
    model.add_bytes("a.q_proj.weight", DType::int8, {2, 3}, std::vector<std::byte>(6));
  };
  CHECK(kind_of(codes) == "missing_scales");
  CHECK(kind_of([](TinyModel& m) { m.add("a.q_proj.SCB", {2}, {1, 1}); }) == "missing_scales");
  for (const float bad : {-1.0f, NAN, INFINITY}) {
    CHECK(kind_of([&](TinyModel& m) {
            codes(m);
            m.add("a.q_proj.SCB", {2}, {1, bad});
          }) == "bad_scales");
  }
  CHECK(kind_of([&](TinyModel& m) {
          codes(m);
          m.add("a.q_proj.SCB", {3}, {1, 1, 1});
        }) == "bad_scales");
  CHECK(kind_of([&](TinyModel& m) {
          codes(m);
          m.add("a.q_proj.SCB", {2}, {1, 1});
          m.add_bytes("a.q_proj.weight_format", DType::uint8, {}, {std::byte{2}});
        }) == "weight_format");
  CHECK(kind_of([&](TinyModel& m) {
          codes(m);
          m.add("a.q_proj.SCB", {2}, {1, 1});
          m.add_bytes("a.q_proj.kvant_keep_columns", DType::int64, {1},
                      {std::byte{9}, {}, {}, {}, {}, {}, {}, {}});
          m.add_bytes("a.q_proj.kvant_keep_weights", DType::float16, {2, 1},
                      std::vector<std::byte>(4));
        }) == "structure");
}
