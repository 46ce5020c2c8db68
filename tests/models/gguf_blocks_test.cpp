// GGUF files run in the blocks that they are stored in, and tables of embeddings in weight formats:
// what is multiplied and looked up is what the blocks and codes stand for.

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/gguf.hpp"
#include "kvant/isa.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "kvant/models/model_files.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::Context;
using kvant::WeightFormat;
using kvant::models::Embeddings;
using kvant::models::Model;
using kvant::models::ModelFiles;
using kvant::models::Request;
using kvant::models::Scheme;
using kvant::models::TokenId;
using kvant::test::logits_of;
using kvant::test::relative_error;
using kvant::test::wave;

constexpr std::uint64_t kWidth = 256;
constexpr std::uint64_t kVocabulary = 90;
const std::vector<TokenId> kBlockIds = {3, 4, 5, 60, 7, 8, 9, 10, 11, 12, 13, 2};

/// A llama, or a mixtral with two experts, of random weights; K is whole blocks of 256.
class RandomModel {
 public:
  RandomModel(bool mixtral, bool tied) {
    nlohmann::json config = {{"model_type", mixtral ? "mixtral" : "llama"},
                             {"hidden_size", kWidth},
                             {"intermediate_size", 512},
                             {"num_attention_heads", 4},
                             {"num_key_value_heads", 2},
                             {"num_hidden_layers", 1},
                             {"vocab_size", kVocabulary},
                             {"max_position_embeddings", 64},
                             {"rms_norm_eps", 1e-5},
                             {"rope_theta", 1e4},
                             {"hidden_act", "silu"},
                             {"tie_word_embeddings", tied}};
    if (mixtral) {
      config["num_local_experts"] = 2;
      config["num_experts_per_tok"] = 2;
    }
    builder_.config(config.dump());
    matrix("model.embed_tokens", kVocabulary, kWidth, 1.0f);
    if (!tied) matrix("lm_head", kVocabulary, kWidth, 1.0f);
    const std::string block = "model.layers.0.";
    matrix(block + "self_attn.q_proj", kWidth, kWidth, 0.1f);
    matrix(block + "self_attn.k_proj", kWidth / 2, kWidth, 0.1f);
    matrix(block + "self_attn.v_proj", kWidth / 2, kWidth, 0.1f);
    matrix(block + "self_attn.o_proj", kWidth, kWidth, 0.1f);
    for (int expert = 0; expert < (mixtral ? 2 : 1); ++expert) {
      const std::string mlp =
          block + (mixtral ? "block_sparse_moe.experts." + std::to_string(expert) + "." : "mlp.");
      matrix(mlp + (mixtral ? "w1" : "gate_proj"), 512, kWidth, 0.1f);
      matrix(mlp + (mixtral ? "w3" : "up_proj"), 512, kWidth, 0.1f);
      matrix(mlp + (mixtral ? "w2" : "down_proj"), kWidth, 512, 0.1f);
    }
    if (mixtral) matrix(block + "block_sparse_moe.gate", 2, kWidth, 0.1f);
    for (const std::string& norm : {block + "input_layernorm", block + "post_attention_layernorm",
                                    std::string("model.norm")}) {
      builder_.add(norm + ".weight", {kWidth}, std::vector<float>(kWidth, 1.0f));
    }
    folder_ = builder_.write();
  }
  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  void matrix(const std::string& name, std::uint64_t rows, std::uint64_t cols, float scale) {
    std::vector<float> values = wave(static_cast<std::size_t>(rows * cols), seed_++);
    for (float& value : values) value = value * scale + 0.1f * scale;  // (minimums differ)
    builder_.add(name + ".weight", {rows, cols}, values);
  }

  kvant::test::CheckpointBuilder builder_;
  std::string folder_;
  unsigned seed_ = 1;
};

Model load_as(Context& context, const std::filesystem::path& path, const Request& request) {
  const ModelFiles files(path);
  kvant::models::LoadOptions options;
  options.plan = make_plan(files.config(), request);
  return load_model(context, path, files.config(), options);
}

}  // namespace

TEST_CASE("gguf blocks: as stored, exactly what their floats give, and near it in int8") {
  Context context;
  const kvant::test::TempFolder temporary;
  const auto file = temporary.path() / "model.gguf";
  const auto check = [&](const RandomModel& model, const char* type, bool whole) {
    INFO(type);
    (void)kvant::models::convert_to_gguf(
        context, model.folder(), file, {.type = type, .tokenizer = false, .job = {.force = true}});
    const Model floats = load_as(context, file, {.scheme = Scheme::fp32});
    const std::vector<float> wanted = logits_of(context, floats, kBlockIds);
    const Model exact = load_as(context, file, {.arithmetic = kvant::Arithmetic::exact});
    CHECK(exact.wte.is_coded());
    CHECK(relative_error(logits_of(context, exact, kBlockIds), wanted) <= 1e-6);
    const Model int15 = load_as(context, file, {.arithmetic = kvant::Arithmetic::int15});
    CHECK(relative_error(logits_of(context, int15, kBlockIds), wanted) <= 0.0005);
    CHECK(int15.rows_are_independent);
    const Model stored = load_as(context, file, {});  // the default
    const std::vector<float> got = logits_of(context, stored, kBlockIds);
    CHECK(relative_error(got, wanted) <= 0.03);
    CHECK_FALSE(stored.rows_are_independent);
    CHECK_FALSE(stored.table_sqnr_db.has_value());  // nothing was lost here
    // As many bytes as the file has, and vectors.
    std::uint64_t bytes = 0;
    const kvant::io::Gguf blocks(file);
    for (const auto& tensor : blocks.tensors()) bytes += tensor.bytes;
    if (whole) CHECK(stored.weight_bytes() == bytes);
    // The same bits on every kernel set and for any number of threads.
    for (const kvant::IsaInfo& isa : kvant::instruction_sets()) {
      if (!isa.available) continue;
      Context other({.isa = isa.name, .threads = 3});
      INFO(isa.name);
      CHECK(logits_of(other, load_as(other, file, {}), kBlockIds) == got);
    }
  };
  const RandomModel llama(false, true);
  for (const char* type : {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"}) {
    check(llama, type, true);
  }
  const RandomModel mixtral(true, false);
  check(mixtral, "q4_k", true);  // experts are slices of a tensor
  check(mixtral, "q8_0", true);
}

TEST_CASE("gguf blocks: a scale that is no number is an error that names the tensor") {
  Context context;
  const kvant::test::TempFolder temporary;
  const auto file = temporary.path() / "model.gguf";
  const RandomModel llama(false, true);
  (void)kvant::models::convert_to_gguf(context, llama.folder(), file,
                                       {.type = "q5_1", .tokenizer = false});
  std::string bytes = kvant::test::read_text(file);
  {
    const kvant::io::Gguf gguf(file);
    const auto& tensors = gguf.tensors();
    std::size_t back = 0;
    bool behind = false;
    for (const auto& tensor : tensors) {  // from the end of the file back to the tensor's start
      behind = behind || tensor.name == "blk.0.ffn_down.weight";
      if (behind) back += (tensor.bytes + 31) / 32 * 32;
    }
    const std::size_t padded = (bytes.size() + 31) / 32 * 32;
    bytes[padded - back + 1] = 0x7C;
    bytes[padded - back] = 0;
  }
  temporary.write("broken.gguf", bytes);
  const auto broken = temporary.path() / "broken.gguf";
  std::string message;
  CHECK(kvant::test::code_of([&] { (void)load_as(context, broken, {}); }, &message) ==
        kvant::ErrorCode::invalid_file);
  INFO(message);
  CHECK(message.find("blk.0.ffn_down.weight") != std::string::npos);
  CHECK(message.find("block 0 of row 0") != std::string::npos);
  CHECK_NOTHROW(load_as(context, broken, {.scheme = Scheme::fp32}));
}

TEST_CASE("embeddings: in every format, looked up and multiplied as what the codes stand for") {
  Context context;
  std::vector<Embeddings> all;
  for (const kvant::WeightFormatInfo& info : kvant::weight_format_table()) {
    const auto embeddings = kvant::models::embeddings_from_name(info.name);
    CHECK(embeddings.has_value() == (info.has_integer_products() && !info.is_gguf()));
    if (embeddings) {
      CHECK(to_string(*embeddings) == info.name);
      CHECK(kvant::models::embeddings_names().find(std::string(info.name)) != std::string::npos);
      all.push_back(*embeddings);
    }
  }
  CHECK(all.size() == 8);
  for (const bool tied : {true, false}) {
    const RandomModel llama(false, tied);
    const Model floats = load_as(context, llama.folder(), {});
    CHECK_FALSE(floats.wte.is_coded());
    const std::vector<float> wanted = logits_of(context, floats, kBlockIds);
    for (const Embeddings& embeddings : all) {
      INFO(to_string(embeddings) << (tied ? " tied" : " apart"));
      const Model model = load_as(context, llama.folder(), {.embeddings = embeddings});
      REQUIRE(model.wte.is_coded());
      CHECK(model.wte.format() == embeddings.format);
      CHECK(model.lm_head().is_coded());
      CHECK(model.weight_bytes() < floats.weight_bytes());
      // Rows are the codes' values, and the error is what was reported.
      std::vector<float> scratch;
      std::vector<float> other;
      double signal = 0.0;
      double error = 0.0;
      for (std::int64_t id = 0; id < model.wte.rows(); ++id) {
        const float* row = model.wte.row(context, id, scratch);
        const float* value = floats.wte.row(context, id, other);
        for (std::size_t i = 0; i < kWidth; ++i) {
          signal += std::pow(static_cast<double>(value[i]), 2);
          error += std::pow(static_cast<double>(value[i]) - static_cast<double>(row[i]), 2);
        }
      }
      REQUIRE(model.table_sqnr_db.has_value());
      CHECK(std::abs(*model.table_sqnr_db - 10 * std::log10(signal / error)) < 1e-6);
      const int bits = describe(embeddings.format).bits;
      CHECK(*model.table_sqnr_db > (bits == 8 ? 40.0 : bits == 4 ? 16.0 : bits == 3 ? 12.0 : 5.0));
      if (bits == 8) CHECK(relative_error(logits_of(context, model, kBlockIds), wanted) < 0.02);
      // A row's logits do not depend on the rows beside it.
      kvant::models::Cache cache;
      const std::vector<float> hidden = forward(context, model, kBlockIds, cache);
      const auto rows = static_cast<std::int64_t>(kBlockIds.size());
      const auto vocabulary = static_cast<std::int64_t>(kVocabulary);
      std::vector<float> together(static_cast<std::size_t>(rows * vocabulary));
      std::vector<float> alone(together.size());
      compute_logits(context, model, {hidden.data(), rows, static_cast<std::int64_t>(kWidth)},
                     {together.data(), rows, vocabulary});
      for (std::int64_t r = 0; r < rows; ++r) {
        compute_logits(context, model,
                       {hidden.data() + r * static_cast<std::int64_t>(kWidth), 1,
                        static_cast<std::int64_t>(kWidth)},
                       {alone.data() + r * vocabulary, 1, vocabulary});
      }
      CHECK(alone == together);
      // In exact arithmetic the head is a float product with the codes' values.
      const Model exact =
          load_as(context, llama.folder(),
                  {.arithmetic = kvant::Arithmetic::exact, .embeddings = embeddings});
      std::vector<float> got(static_cast<std::size_t>(vocabulary));
      compute_logits(context, exact, {hidden.data(), 1, static_cast<std::int64_t>(kWidth)},
                     {got.data(), 1, vocabulary});
      for (std::int64_t id = 0; id < vocabulary; ++id) {
        const float* row = exact.lm_head().row(context, id, scratch);
        double sum = 0.0;
        double size = 0.0;
        for (std::size_t i = 0; i < kWidth; ++i) {
          const double product = static_cast<double>(row[i]) * static_cast<double>(hidden[i]);
          sum += product;
          size += std::abs(product);
        }
        CHECK(std::abs(static_cast<double>(got[static_cast<std::size_t>(id)]) - sum) <=
              1e-6 * size);
      }
    }
  }
}

TEST_CASE("embeddings: what a table cannot be held in is refused") {
  using kvant::models::embeddings_from_name;
  CHECK(embeddings_from_name("float") == Embeddings{});
  CHECK(embeddings_from_name("stored")->kind == Embeddings::Kind::stored);
  for (const char* name : {"fp32", "fp8", "q4_k", "int9", ""}) {
    CHECK_FALSE(embeddings_from_name(name).has_value());
  }
  const RandomModel llama(false, true);
  Context context;
  std::string message;
  CHECK(kvant::test::code_of(
            [&] {
              (void)load_as(context, llama.folder(),
                            {.embeddings = Embeddings{.kind = Embeddings::Kind::stored}});
            },
            &message) == kvant::ErrorCode::invalid_argument);
  CHECK(message.find("GGUF") != std::string::npos);
  CHECK(kvant::test::code_of([&] {
          (void)load_as(context, llama.folder(), {.arithmetic = kvant::Arithmetic::exact});
        }) == kvant::ErrorCode::invalid_argument);
}
