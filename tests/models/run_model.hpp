#pragma once

// Short cuts through gpt_bigcode's library.

#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kvant/models/generate.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/model_files.hpp"

namespace kvant::test {

inline kvant::models::Model load(Context& context, const std::filesystem::path& folder,
                                 const std::string& scheme = "fp32",
                                 std::optional<Arithmetic> mode = std::nullopt,
                                 std::optional<float> threshold = std::nullopt,
                                 std::vector<std::string> skip = {}) {
  const kvant::models::Config config = kvant::models::load_config(folder / "config.json");
  kvant::models::Request request;
  if (!scheme.empty()) request.scheme = kvant::models::scheme_from_name(scheme);
  request.mode = mode;
  request.threshold = threshold;
  kvant::models::LoadOptions options;
  options.plan = kvant::models::make_plan(config, request);
  options.skip = std::move(skip);
  return kvant::models::load_model(context, folder, config, options);
}

inline kvant::models::Config config_in(const std::filesystem::path& folder) {
  return kvant::models::load_config(folder / "config.json");
}

/// The model of a folder or a GGUF file.
inline kvant::models::Model load_files(Context& context, const kvant::models::ModelFiles& files,
                                       const char* scheme = "fp32") {
  kvant::models::Request request;
  request.scheme = kvant::models::scheme_from_name(scheme);
  kvant::models::LoadOptions options;
  options.plan = make_plan(files.config(), request);
  return load_model(context, files.path(), files.config(), options);
}
inline kvant::models::Model load_files(Context& context, const std::filesystem::path& path,
                                       const char* scheme = "fp32") {
  return load_files(context, kvant::models::ModelFiles(path), scheme);
}

/// Logits [T, vocab] of ids after what the cache holds.
inline std::vector<float> logits_of(Context& context, const kvant::models::Model& model,
                                    const std::vector<kvant::models::TokenId>& ids,
                                    kvant::models::Cache& cache) {
  const std::vector<float> hidden = kvant::models::forward(context, model, ids, cache);
  const auto rows = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocabulary = model.config.vocab_size;
  std::vector<float> logits(static_cast<std::size_t>(rows * vocabulary));
  kvant::models::compute_logits(context, model, {hidden.data(), rows, model.config.n_embd},
                                {logits.data(), rows, vocabulary});
  return logits;
}

inline std::vector<float> logits_of(Context& context, const kvant::models::Model& model,
                                    const std::vector<kvant::models::TokenId>& ids) {
  kvant::models::Cache cache;
  return logits_of(context, model, ids, cache);
}

/// Logits of a short prompt.
inline std::vector<float> prompt_logits(Context& context, const std::filesystem::path& folder,
                                        const std::string& scheme) {
  return logits_of(context, load(context, folder, scheme), {1, 5, 9, 13, 2, 7});
}

/// |got - exact| / |exact|.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& exact) {
  double error = 0;
  double power = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(exact[i]);
    error += difference * difference;
    power += static_cast<double>(exact[i]) * static_cast<double>(exact[i]);
  }
  return std::sqrt(error / power);
}

/// What random models of width 32 may lose, which do not forgive much: 4 bits are told from noise,
/// 8 bits are near.
inline double error_of(const kvant::models::Scheme& scheme) {
  const bool packed = scheme.kind == kvant::models::Scheme::Kind::packed;
  const int bits = packed ? describe(scheme.format).bits : 8;
  return bits > 4 ? 0.25 : bits > 3 ? 0.9 : 2.0;
}

/// The largest |a - b|; infinity for different sizes or a NaN.
template <class A, class B>
double largest_difference(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = std::isnan(difference) ? HUGE_VAL : difference;
  }
  return largest;
}

}  // namespace kvant::test
