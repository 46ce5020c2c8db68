// Models with encoders: hidden states, logits and greedy ids of transformers, in every scheme.
// tests/data/encoders/make_encoders.py made the models.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/models/calibration.hpp"
#include "models/decoder/positions.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::SafeTensors;
using kvant::models::Cache;
using kvant::models::Model;
using kvant::models::ModelKind;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::ids_in;
using kvant::test::kData;
using kvant::test::kEncoders;
using kvant::test::largest;
using kvant::test::largest_difference;
using kvant::test::load;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

std::vector<float> logits_from(kvant::Context& context, const Model& model,
                               const std::vector<float>& hidden) {
  const std::int64_t width = model.config.n_embd;
  const auto rows = static_cast<std::int64_t>(hidden.size()) / width;
  const std::int64_t vocabulary = model.config.vocab_size;
  std::vector<float> logits(static_cast<std::size_t>(rows * vocabulary));
  kvant::models::compute_logits(context, model, {hidden.data(), rows, width},
                                {logits.data(), rows, vocabulary});
  return logits;
}

/// Logits of the decoder's ids, in calls of `step`.
std::vector<float> decode(kvant::Context& context, const Model& model, const Ids& source,
                          const Ids& ids, std::size_t step) {
  Cache cache;
  kvant::models::read_source(context, model, source, cache);
  std::vector<float> all;
  for (std::size_t i = 0; i < ids.size(); i += step) {
    const std::vector<float> hidden = kvant::models::forward(
        context, model, std::span(ids).subspan(i, std::min(step, ids.size() - i)), cache);
    const std::vector<float> logits = logits_from(context, model, hidden);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

/// What a model of this folder gives, its logits where it has a head, else its hidden states.
std::vector<float> result_of(kvant::Context& context, const Model& model, const SafeTensors& file) {
  const Ids ids = ids_in(file, "input_ids");
  if (model.config.kind == ModelKind::encoder_decoder) {
    return decode(context, model, ids, ids_in(file, "decoder_input_ids"), 100);
  }
  const std::vector<float> hidden =
      kvant::models::encode(context, model, ids, ids_in(file, "token_types"));
  return file.contains("logits") ? logits_from(context, model, hidden) : hidden;
}

void copy_changed(const Path& from, const Path& to, const json& changes) {
  std::filesystem::create_directories(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  json config = json::parse(kvant::test::read_text(from / "config.json"));
  for (const auto& [key, value] : changes.items()) {
    if (value.is_null()) {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  std::ofstream(to / "config.json") << config;
}

}  // namespace

TEST_CASE("encoders: hidden states and logits of transformers") {
  kvant::Context context;
  for (const char* name : {"bert", "bert_masked", "roberta"}) {
    INFO(name);
    const SafeTensors expected(kEncoders / name / "expected.safetensors");
    const Model model = load(context, kEncoders / name);
    const Ids ids = ids_in(expected, "input_ids");
    const std::vector<float> hidden =
        kvant::models::encode(context, model, ids, ids_in(expected, "token_types"));
    const auto wanted = expected.values<float>("hidden");
    CHECK(largest_difference(hidden, wanted) <= 1e-5 * largest(wanted));
    if (!expected.contains("logits")) {
      CHECK(code_of([&] { (void)logits_from(context, model, hidden); }) == ErrorCode::unsupported);
      continue;
    }
    const auto logits = expected.values<float>("logits");
    CHECK(largest_difference(logits_from(context, model, hidden), logits) <=
          1e-5 * largest(logits));
  }
}

TEST_CASE("encoder-decoders: logits and greedy ids of transformers, at once and step by step") {
  kvant::Context context;
  for (const char* name : {"t5", "t5_gated"}) {
    INFO(name);
    const SafeTensors expected(kEncoders / name / "expected.safetensors");
    const Model model = load(context, kEncoders / name);
    const Ids source = ids_in(expected, "input_ids");
    const Ids ids = ids_in(expected, "decoder_input_ids");
    const auto hidden = expected.values<float>("hidden");
    CHECK(largest_difference(kvant::models::encode(context, model, source), hidden) <=
          1e-5 * largest(hidden));
    const auto logits = expected.values<float>("logits");
    for (const std::size_t step : {std::size_t{100}, std::size_t{1}, std::size_t{7}}) {
      INFO(step);
      CHECK(largest_difference(decode(context, model, source, ids, step), logits) <=
            1e-5 * largest(logits));
    }
    kvant::models::GenerateOptions options;
    options.tokens = 19;
    options.ignore_eos = true;
    Ids greedy = {static_cast<TokenId>(model.config.decoder_start_id)};
    const Ids more = kvant::models::generate(context, model, source, options);
    greedy.insert(greedy.end(), more.begin(), more.end());
    CHECK(greedy == ids_in(expected, "greedy"));
    options.kv = kvant::models::KvFormat::int8;
    CHECK(kvant::models::generate(context, model, source, options).size() == 19);
  }
}

TEST_CASE("encoders: configs as transformers 4 wrote them") {
  kvant::Context context;
  const kvant::test::TempFolder folder;
  const SafeTensors expected(kEncoders / "t5_gated" / "expected.safetensors");
  // FLAN-T5's: not tied, and so not scaled; the words of transformers 5 are missing.
  copy_changed(kEncoders / "t5_gated", folder.path(),
               {{"tie_word_embeddings", false},
                {"scale_decoder_outputs", nullptr},
                {"dense_act_fn", nullptr},
                {"is_gated_act", nullptr}});
  const Model model = load(context, folder.path());
  const auto logits = expected.values<float>("logits");
  CHECK(largest_difference(result_of(context, model, expected), logits) <= 1e-5 * largest(logits));
}

TEST_CASE("encoders: norms as old files call them") {
  kvant::Context context;
  const kvant::test::TempFolder folder;
  copy_changed(kEncoders / "bert_masked", folder.path(), json::object());
  std::string bytes = kvant::test::read_text(folder.path() / "model.safetensors");
  // The same number of bytes, so that the header keeps its length.
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>{"LayerNorm.weight\"", "LayerNorm.gamma\" "},
        {"LayerNorm.bias\"", "LayerNorm.beta\""}}) {
    for (std::size_t at = 0; (at = bytes.find(from, at)) != std::string::npos;) {
      bytes.replace(at, from.size(), to);
    }
  }
  std::ofstream(folder.path() / "model.safetensors", std::ios::binary) << bytes;
  const SafeTensors expected(kEncoders / "bert_masked" / "expected.safetensors");
  const Model model = load(context, folder.path());
  const auto logits = expected.values<float>("logits");
  CHECK(largest_difference(result_of(context, model, expected), logits) <= 1e-5 * largest(logits));
}

TEST_CASE("encoders: every scheme runs every model, near its floats") {
  kvant::Context context;
  for (const char* name : {"bert", "bert_masked", "roberta", "t5", "t5_gated"}) {
    const SafeTensors expected(kEncoders / name / "expected.safetensors");
    const std::vector<float> exact =
        expected.values<float>(expected.contains("logits") ? "logits" : "hidden");
    for (const kvant::models::Scheme scheme : kvant::models::all_schemes()) {
      INFO(name << " " << to_string(scheme));
      const Model model = load(context, kEncoders / name, std::string(to_string(scheme)));
      const std::vector<float> result = result_of(context, model, expected);
      REQUIRE(result.size() == exact.size());
      CHECK(kvant::test::relative_error(result, exact) < kvant::test::error_of(scheme));
    }
  }
}

TEST_CASE("encoders: T5 in 8 bits as transformers and bitsandbytes run it") {
  kvant::Context context;
  const Path folder = kData / "architectures" / "t5";
  const SafeTensors expected(folder / "expected.safetensors");
  const Ids source = ids_in(expected, "input_ids");
  const Ids ids(source.begin(), source.begin() + 4);
  const Model exact = load(context, folder / "float");
  const auto logits = expected.values<float>("logits_float");
  CHECK(largest_difference(decode(context, exact, source, ids, 100), logits) <=
        1e-5 * largest(logits));
  const auto in_8_bits = expected.values<float>("logits_int8");
  const Model stored =
      load(context, folder / "bnb_int8", "llm-int8", kvant::Arithmetic::bitsandbytes);
  CHECK(largest_difference(decode(context, stored, source, ids, 100), in_8_bits) <=
        1e-5 * largest(in_8_bits));
  // Quantized while loading, and wo stays in float: the same layers, the same codes.
  const Model made = load(context, folder / "float", "llm-int8", kvant::Arithmetic::bitsandbytes);
  CHECK(decode(context, made, source, ids, 100) == decode(context, stored, source, ids, 100));
}

TEST_CASE("encoders: outlier columns of every layer that is quantized") {
  kvant::Context context;
  const auto columns_of = [&](const char* name) {
    const kvant::models::Config config =
        kvant::models::load_config(kEncoders / name / "config.json");
    return kvant::models::find_outlier_columns(context, kEncoders / name, config, {}, 1.0f);
  };
  const auto t5 = columns_of("t5");
  CHECK(t5.size() == 3 * 5 + 2 * 9);  // q k v o wi; and the same of cross attention; no wo
  CHECK(t5.contains("encoder.block.2.layer.1.DenseReluDense.wi"));
  CHECK_FALSE(t5.at("decoder.block.1.layer.1.EncDecAttention.k").empty());
  CHECK_FALSE(t5.contains("decoder.block.0.layer.2.DenseReluDense.wo"));
  const auto bert = columns_of("bert_masked");
  CHECK(bert.size() == 2 * 6 + 1);
  CHECK_FALSE(bert.at("cls.predictions.transform.dense").empty());
  CHECK(bert.contains("bert.encoder.layer.1.attention.output.dense"));
}

TEST_CASE("encoders: what a model of another kind is asked for is refused") {
  kvant::Context context;
  const Model bert = load(context, kEncoders / "bert");
  const Model t5 = load(context, kEncoders / "t5");
  const Model llama = load(context, kData / "families" / "llama_bias");
  const Ids ids = {5, 6, 7};
  const auto code = [&](auto&& function) { return code_of(function); };
  Cache cache;
  CHECK(code([&] { (void)forward(context, bert, ids, cache); }) == ErrorCode::unsupported);
  CHECK(code([&] { (void)generate(context, bert, ids, 3); }) == ErrorCode::unsupported);
  CHECK(code([&] { read_source(context, bert, ids, cache); }) == ErrorCode::unsupported);
  CHECK(code([&] { (void)evaluate(context, bert, ids, 3); }) == ErrorCode::unsupported);
  CHECK(code([&] { (void)evaluate(context, t5, ids, 3); }) == ErrorCode::unsupported);
  CHECK(code([&] { (void)encode(context, llama, ids); }) == ErrorCode::unsupported);
  CHECK(code([&] { (void)forward(context, t5, ids, cache); }) == ErrorCode::invalid_argument);
  CHECK(code([&] { read_source(context, t5, Ids{}, cache); }) == ErrorCode::invalid_argument);
  CHECK(code([&] { (void)encode(context, t5, Ids{100}); }) == ErrorCode::out_of_range);
  CHECK(code([&] { (void)encode(context, bert, Ids(41, 3)); }) == ErrorCode::out_of_range);
  const std::vector<std::int32_t> types = {0, 1, 2};
  CHECK(code([&] { (void)encode(context, bert, ids, types); }) == ErrorCode::out_of_range);
  CHECK(code([&] { (void)encode(context, bert, Ids{5}, types); }) == ErrorCode::invalid_argument);
  CHECK(encode(context, bert, Ids{}).empty());
}

TEST_CASE("encoders: buckets of distances as transformers computes them") {
  const kvant::models::Relative relative;  // 32 buckets, up to 128
  const auto bucket = [&](std::int64_t distance, bool both_ways) {
    return kvant::models::relative_bucket(relative, distance, both_ways);
  };
  // T5Attention._relative_position_bucket of transformers.
  const std::vector<std::pair<std::int64_t, std::int64_t>> both = {
      {0, 0},    {-1, 1},   {-7, 7},   {-8, 8},   {-12, 9},   {-16, 10},   {-23, 11},
      {-32, 12}, {-46, 13}, {-64, 14}, {-91, 15}, {-128, 15}, {-1000, 15}, {1, 17},
      {7, 23},   {8, 24},   {16, 26},  {64, 30},  {127, 31},  {5000, 31}};
  for (const auto& [distance, wanted] : both) {
    INFO(distance);
    CHECK(bucket(distance, true) == wanted);
  }
  const std::vector<std::pair<std::int64_t, std::int64_t>> back = {
      {5, 0},    {0, 0},     {-15, 15},  {-16, 16},  {-32, 21},
      {-64, 26}, {-112, 30}, {-127, 31}, {-9999, 31}};
  for (const auto& [distance, wanted] : back) {
    INFO(distance);
    CHECK(bucket(distance, false) == wanted);
  }
}

TEST_CASE("encoders: masks are filled with what is most likely") {
  kvant::Context context;
  const Path folder = kEncoders / "bert_masked";
  const Model model = load(context, folder);
  const Ids ids = {5, 3, 7, 3};
  const auto guesses = kvant::models::fill_masks(context, model, ids, 3, 4);
  REQUIRE(guesses.size() == 2);
  const std::vector<float> logits =
      logits_from(context, model, kvant::models::encode(context, model, ids));
  const auto best = std::max_element(logits.begin() + 300, logits.end()) - logits.begin() - 300;
  CHECK(guesses[1].size() == 4);
  CHECK(guesses[1][0].id == best);
  CHECK(guesses[1][0].probability > guesses[1][1].probability);
  double sum = 0;
  const auto all = kvant::models::fill_masks(context, model, ids, 3, 1000);
  CHECK(all[0].size() == 100);
  for (const auto& guess : all[0]) {
    sum += static_cast<double>(guess.probability);
  }
  CHECK(std::fabs(sum - 1) < 1e-5);
  const auto code = [&](TokenId mask, std::int64_t count) {
    return code_of([&] { (void)kvant::models::fill_masks(context, model, ids, mask, count); });
  };
  CHECK(code(9, 4) == ErrorCode::invalid_argument);
  CHECK(code(3, 0) == ErrorCode::invalid_argument);
}
