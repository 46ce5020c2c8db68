// Models over MPI, of which every rank also runs the whole by itself.

#if KVANT_TEST_MODELS
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <kvant/models/generate.hpp>
#include <kvant/models/load.hpp>
#include <string>
#include <vector>

#include "models/model_builder.hpp"
#include "mpi/world.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::models::Scheme;
using kvant::models::TokenId;
using kvant::test::TestModel;
using kvant::test::world;

/// 12 heads of queries and one of keys.
TestModel gpt_bigcode() {
  TestModel model;
  model.config["n_head"] = 12;
  model.config["n_embd"] = 192;
  model.config["n_inner"] = 700;
  model.config["vocab_size"] = 500;
  model.config["eos_token_id"] = 499;
  model.fill();
  return model;
}

/// Two heads of queries for each of 12 of keys.
TestModel llama() {
  TestModel model;
  model.config = {
      {"model_type", "llama"},        {"vocab_size", 500},        {"max_position_embeddings", 64},
      {"hidden_size", 192},           {"num_hidden_layers", 2},   {"num_attention_heads", 24},
      {"num_key_value_heads", 12},    {"intermediate_size", 520}, {"hidden_act", "silu"},
      {"tie_word_embeddings", false}, {"bos_token_id", 1},        {"eos_token_id", 2}};
  std::mt19937 random(3);
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, double scale,
                       double offset = 0) {
    std::uint64_t count = 1;
    for (const std::uint64_t d : shape) count *= d;
    kvant::test::TestTensor tensor{std::move(shape), std::vector<float>(count)};
    std::normal_distribution<double> normal(offset, scale);
    for (float& v : tensor.values) v = static_cast<float>(normal(random));
    model.tensors[name] = std::move(tensor);
  };
  add("model.embed_tokens.weight", {500, 192}, 0.5);
  add("lm_head.weight", {500, 192}, 0.2);
  add("model.norm.weight", {192}, 0.1, 1);
  for (int n = 0; n < 2; ++n) {
    const std::string block = "model.layers." + std::to_string(n) + ".";
    add(block + "input_layernorm.weight", {192}, 0.1, 1);
    add(block + "post_attention_layernorm.weight", {192}, 0.1, 1);
    add(block + "self_attn.q_proj.weight", {192, 192}, 0.2);
    add(block + "self_attn.k_proj.weight", {96, 192}, 0.2);
    add(block + "self_attn.v_proj.weight", {96, 192}, 0.2);
    add(block + "self_attn.o_proj.weight", {192, 192}, 0.2);
    add(block + "mlp.gate_proj.weight", {520, 192}, 0.2);
    add(block + "mlp.up_proj.weight", {520, 192}, 0.2);
    add(block + "mlp.down_proj.weight", {192, 520}, 0.2);
  }
  return model;
}

kvant::models::Model load(kvant::Context& context, const std::filesystem::path& folder,
                          Scheme scheme, kvant::Ranks* ranks) {
  const kvant::models::Config config = kvant::models::load_config(folder / "config.json");
  kvant::models::LoadOptions options;
  options.plan = make_plan(config, {.scheme = scheme});
  options.ranks = ranks;
  return load_model(context, folder, config, options);
}

/// Logits of a prompt, and the ids behind it.
std::vector<float> results_of(kvant::Context& context, const kvant::models::Model& model) {
  const std::vector<TokenId> ids = {5, 300, 17, 4, 499, 88, 3};
  kvant::models::Cache cache;
  const std::vector<float> hidden = forward(context, model, ids, cache);
  std::vector<float> results(ids.size() * 500);
  const auto rows = static_cast<std::int64_t>(ids.size());
  compute_logits(context, model, {hidden.data(), rows, model.config.n_embd},
                 {results.data(), rows, 500});
  for (const TokenId id : generate(context, model, ids, 8)) {
    results.push_back(static_cast<float>(id));
  }
  return results;
}

}  // namespace

TEST_CASE("models over MPI: logits and ids are those of one process, and files are shared") {
  kvant::Context context({.threads = 1});
  for (const TestModel& made : {gpt_bigcode(), llama()}) {
    const kvant::test::TempFolder folder;
    made.save(folder.path());
    for (const Scheme scheme :
         {Scheme::llm_int8, Scheme::int8, Scheme::int8_tensor,
          Scheme(kvant::WeightFormat::int8_group), Scheme(kvant::WeightFormat::int4_group),
          Scheme(kvant::WeightFormat::nf4)}) {
      INFO(made.config["model_type"] << " " << to_string(scheme) << " on rank " << world().rank()
                                     << " of " << world().size());
      const auto whole = load(context, folder.path(), scheme, nullptr);
      const auto shared = load(context, folder.path(), scheme, &world());
      const std::vector<float> wanted = results_of(context, whole);
      const std::vector<float> got = results_of(context, shared);
      REQUIRE(got.size() == wanted.size());
      CHECK(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)) == 0);
      // Norms, positions and biases are on all ranks; shares are of 64 columns, or of heads, and
      // the one key of gpt_bigcode is on all.
      const double ranks = world().size();
      const double share = ranks == 1 ? 1 : 1.35 / ranks + 0.1;
      CHECK(static_cast<double>(shared.bytes_read) <=
            share * static_cast<double>(whole.bytes_read));
      CHECK(static_cast<double>(shared.weight_bytes()) <=
            share * static_cast<double>(whole.weight_bytes()));
    }
  }
}

TEST_CASE("a rank leaves the others: it has no memory") {
  std::signal(SIGTERM, SIG_IGN);  // the launcher's, once the first rank is gone
  const kvant::test::TempFolder folder;
  TestModel made = gpt_bigcode();
  made.config["vocab_size"] = 200'000;  // 154 MB of float32
  made.tensors["transformer.wte.weight"] = {{200'000, 192},
                                            std::vector<float>(200'000 * 192, 0.5f)};
  made.save(folder.path());
  made.tensors.clear();
  const int last = world().size() - 1;
  if (world().rank() == last) {
    std::ifstream status("/proc/self/statm");
    rlim_t pages = 0;
    status >> pages;
    const rlim_t limit = pages * 4096 + (256u << 20);  // the file is mapped, and then some
    const rlimit address_space{limit, limit};
    REQUIRE(setrlimit(RLIMIT_AS, &address_space) == 0);
  }
  std::string message;
  try {
    std::vector<std::vector<float>> room;
    if (world().rank() == last) {
      for (int i = 0; i < 64; ++i) room.emplace_back(std::size_t{1} << 20, 1.0f);
    }
    kvant::Context context({.threads = 1});
    (void)load(context, folder.path(), Scheme::llm_int8, &world());
  } catch (const std::bad_alloc&) {
    message = "out of memory";
  } catch (const kvant::Error& error) {
    message = error.what();
  }
  INFO(message);
  CHECK(message.find("memory") != std::string::npos);
  if (world().rank() != last) CHECK(message.starts_with("rank " + std::to_string(last) + ": "));
  world().fail(message);
}
#endif
