// Models shared by ranks, here threads: the bits of one process in every scheme and family.

#include <cstring>
#include <set>
#include <string>

#include "kvant/models/calibration.hpp"
#include "models/model_builder.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"
#include "support/thread_ranks.hpp"

namespace {

using kvant::Ranks;
using kvant::models::Config;
using kvant::models::Model;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::kData;
using kvant::test::run_ranks;
using Ids = std::vector<TokenId>;

const std::filesystem::path kCodeModel = kvant::test::kTinyCode / "model";

Model load_for(kvant::Context& context, const std::filesystem::path& folder,
               std::optional<kvant::models::Scheme> scheme, Ranks* ranks) {
  const Config config = kvant::models::load_config(folder / "config.json");
  kvant::models::Request request;
  request.scheme = scheme;
  kvant::models::LoadOptions options;
  options.plan = kvant::models::make_plan(config, request);
  options.ranks = ranks;
  return kvant::models::load_model(context, folder, config, options);
}

/// Logits of a prompt and what is generated behind it, as one list.
std::vector<float> results_of(kvant::Context& context, const Model& model, const Ids& ids) {
  const Config& config = model.config;
  std::vector<float> hidden;
  if (config.kind == kvant::models::ModelKind::encoder) {
    hidden = encode(context, model, ids);
    if (model.head.dense == nullptr) return hidden;
  } else {
    kvant::models::Cache cache;
    if (config.kind == kvant::models::ModelKind::encoder_decoder) {
      read_source(context, model, ids, cache);
    }
    hidden = forward(context, model, ids, cache);
  }
  const auto rows = static_cast<std::int64_t>(ids.size());
  std::vector<float> logits(static_cast<std::size_t>(rows * config.vocab_size));
  compute_logits(context, model, {hidden.data(), rows, config.n_embd},
                 {logits.data(), rows, config.vocab_size});
  if (config.kind != kvant::models::ModelKind::encoder) {
    kvant::models::GenerateOptions options;
    options.tokens = 5;
    options.ignore_eos = true;
    for (const TokenId id : generate(context, model, ids, options)) {
      logits.push_back(static_cast<float>(id));
    }
  }
  return logits;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Every rank has the results of one process: its bits, or, of float layers that are narrower than
/// a block of outputs for each rank, something near.
void check_split(const std::filesystem::path& folder, std::optional<kvant::models::Scheme> scheme,
                 int size, const Ids& ids, bool near = false) {
  kvant::Context alone({.threads = 1});
  const std::vector<float> wanted =
      results_of(alone, load_for(alone, folder, scheme, nullptr), ids);
  std::vector<std::vector<float>> got(static_cast<std::size_t>(size));
  run_ranks(size, [&](Ranks& ranks) {
    kvant::Context context({.threads = 1});
    const Model model = load_for(context, folder, scheme, &ranks);
    got[static_cast<std::size_t>(ranks.rank())] = results_of(context, model, ids);
  });
  for (int r = 0; r < size; ++r) {
    INFO("rank " << r << " of " << size);
    if (near) {
      CHECK(kvant::test::relative_error(got[static_cast<std::size_t>(r)], wanted) < 1e-5);
    } else {
      CHECK(same_bits(got[static_cast<std::size_t>(r)], wanted));
    }
  }
}

std::vector<std::filesystem::path> folders_in(const std::filesystem::path& room) {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(room)) {
    if (std::filesystem::exists(entry.path() / "config.json")) result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace

TEST_CASE("split: every family by 2 and 4 ranks, with the bits of one process") {
  const Ids ids = {3, 14, 15, 92, 6};
  std::set<std::string_view> seen;
  for (const char* room : {"families", "encoders"}) {
    for (const auto& folder : folders_in(kData / room)) {
      const Config config = kvant::models::load_config(folder / "config.json");
      seen.insert(config.model_type);
      for (const int size : {2, 4}) {
        if (config.n_head % size != 0) continue;
        if (!config.qk_norm_per_head && !config.names.q_norm.empty()) continue;  // refused, below
        for (const auto scheme : {kvant::models::Scheme::llm_int8, kvant::models::Scheme::fp32}) {
          INFO(folder << " " << to_string(scheme) << " " << size);
          check_split(folder, scheme, size, ids, scheme == kvant::models::Scheme::fp32);
        }
      }
    }
  }
  CHECK(seen.size() >= 18);
}

TEST_CASE("split: every scheme by 1, 2 and 4 ranks, with the bits of one process") {
  const Ids ids = {1, 70, 43, 200, 9, 11, 12, 130, 140};
  for (const kvant::models::Scheme scheme : kvant::models::all_schemes()) {
    for (const int size : {1, 2, 4}) {
      INFO(to_string(scheme) << " " << size);
      check_split(kCodeModel, scheme, size, ids);
    }
  }
}

TEST_CASE("split: 3 ranks, keys and values on several ranks, and what is read of the file") {
  const kvant::test::TempFolder folder;
  kvant::test::TestModel made;
  made.config["n_head"] = 6;
  made.config["n_embd"] = 192;
  made.config["n_inner"] = 200;
  made.config["vocab_size"] = 400;
  made.fill();
  made.save(folder.path());
  const Ids ids = {5, 99, 7, 300};
  for (const kvant::models::Scheme each :
       {kvant::models::Scheme::llm_int8, kvant::models::Scheme(kvant::WeightFormat::int4_group),
        kvant::models::Scheme::int8_tensor}) {
    check_split(folder.path(), each, 3, ids);
  }
  kvant::Context alone({.threads = 1});
  const kvant::models::Scheme scheme(kvant::WeightFormat::int4_group);
  const Model whole = load_for(alone, folder.path(), scheme, nullptr);
  std::uint64_t stored = 0;
  std::uint64_t replicated = 0;  // positions, norms, biases
  for (const auto& [name, tensor] : made.tensors) {
    stored += tensor.values.size() * sizeof(float);
    const bool split = name.ends_with(".weight") && tensor.shape.size() == 2;
    if (!split || name.ends_with("wpe.weight")) replicated += tensor.values.size() * sizeof(float);
  }
  CHECK(whole.bytes_read == static_cast<std::int64_t>(stored));
  std::vector<std::int64_t> read(3);
  std::vector<std::size_t> held(3);
  run_ranks(3, [&](Ranks& ranks) {
    kvant::Context context({.threads = 1});
    const Model model = load_for(context, folder.path(), scheme, &ranks);
    read[static_cast<std::size_t>(ranks.rank())] = model.bytes_read;
    held[static_cast<std::size_t>(ranks.rank())] = model.weight_bytes();
  });
  for (std::size_t r = 0; r < 3; ++r) {
    INFO("rank " << r);
    // Shares of 64 columns and rows, and the one key and value head that all have.
    CHECK(static_cast<double>(read[r]) <
          1.25 * static_cast<double>(stored - replicated) / 3 + static_cast<double>(replicated));
    CHECK(static_cast<double>(held[r]) < 0.6 * static_cast<double>(whole.weight_bytes()));
  }
}

TEST_CASE("split: calibration finds the columns of one process") {
  kvant::Context alone({.threads = 1});
  const Config config = kvant::models::load_config(kCodeModel / "config.json");
  const auto wanted = find_outlier_columns(alone, kCodeModel, config, {1, 2, 3, 40, 50, 60}, 3.0f);
  CHECK(wanted.size() > 4);
  run_ranks(4, [&](Ranks& ranks) {
    kvant::Context context({.threads = 1});
    const auto got =
        find_outlier_columns(context, kCodeModel, config, {1, 2, 3, 40, 50, 60}, 3.0f, {}, &ranks);
    if (got != wanted) throw std::runtime_error("other columns");
  });
}

TEST_CASE("split: heads that ranks do not divide are an error that says what would do") {
  const auto load = [](const std::filesystem::path& folder, int size) {
    run_ranks(size, [&](Ranks& ranks) {
      kvant::Context context({.threads = 1});
      (void)load_for(context, folder, kvant::models::Scheme::llm_int8, &ranks);
    });
  };
  CHECK_THROWS_WITH(
      load(kCodeModel, 3),
      Catch::Contains("3 ranks cannot share this gpt_bigcode: it has 4 heads of "
                      "queries and 1 of keys, which can be split over 1, 2, 4 ranks"));
  CHECK_THROWS_WITH(load(kData / "families/olmo2", 2),
                    Catch::Contains("normalized over all heads"));
  // 64 neighbours of the flattened weight share a scale; three ranks would cut bloom's inside.
  const auto cut = [&] {
    run_ranks(3, [&](Ranks& ranks) {
      kvant::Context context({.threads = 1});
      (void)load_for(context, kData / "families/bloom",
                     kvant::models::Scheme(kvant::WeightFormat::nf4), &ranks);
    });
  };
  CHECK_THROWS_WITH(cut(), Catch::Contains("neighbours share a scale"));
}
