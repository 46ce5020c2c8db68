// A language model end to end in every scheme: reading 512 tokens at once, then writing 128, one at
// a time behind them. The ceiling of writing is the best streaming read of the bytes that a token
// needs: the linear layers and the output head. "outside" is the share of time that is spent
// neither in linear layers nor in the head: attention, norms, rotations, activations.
//
// KVANT_MODEL names a GGUF file or a folder; else build/models/SmolLM2-135M-Instruct.Q4_1.gguf,
// which examples/run.sh --real fetches; else, and for each --shape, a Llama with random weights.

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <span>

#include "harness/entries.hpp"
#include "harness/model_timing.hpp"
#include "harness/random_llama.hpp"
#include "harness/report.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/model_files.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

constexpr const char* kFetched = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Times of single calls, and what of them was spent where.
struct Times {
  std::vector<double> seconds;
  double linear = 0;
  double head = 0;

  [[nodiscard]] double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }
  [[nodiscard]] double outside() const { return 1 - (linear + head) / total(); }
  /// Tokens per second.
  [[nodiscard]] Figure figure(double tokens) const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return {tokens / sorted[sorted.size() / 2], tokens / sorted.back(), tokens / sorted.front()};
  }
};

struct Measured {
  Times read;
  Times write;
  std::size_t token_bytes = 0;
};

Measured measure(Context& context, models::Model& model, bool quick) {
  Measured result;
  result.token_bytes = model.weight_bytes();
  if (!model.config.tie_word_embeddings) result.token_bytes -= model.wte.bytes();
  double linear = 0;
  time_linears(model, linear);
  const std::vector<models::TokenId> ids = some_ids(512, model.config.vocab_size);
  std::vector<float> logits(static_cast<std::size_t>(model.config.vocab_size));
  models::Cache cache;
  cache.reserve(model.config, 512 + 128);
  for (int repeat = 0; repeat < (quick ? 2 : 4); ++repeat) {
    cache.clear();
    linear = 0;
    auto start = Clock::now();
    (void)models::forward(context, model, ids, cache);
    if (repeat > 0) {  // the first one makes pages and caches
      result.read.seconds.push_back(seconds_since(start));
      result.read.linear += linear;
    }
    for (int t = 0; t < (quick ? 16 : 128); ++t) {
      linear = 0;
      start = Clock::now();
      const auto hidden = models::forward(
          context, model, std::span(ids).subspan(static_cast<std::size_t>(t), 1), cache);
      const auto head = Clock::now();
      models::compute_logits(context, model, {hidden.data(), 1, model.config.n_embd},
                             {logits.data(), 1, model.config.vocab_size});
      result.write.head += seconds_since(head);
      result.write.linear += linear;
      result.write.seconds.push_back(seconds_since(start));
    }
  }
  return result;
}

/// The best streaming read, in bytes per second.
double streaming_read(int threads, bool quick) {
  constexpr std::int64_t kBytes = std::int64_t{64} << 20;
  constexpr std::int64_t kMatrices = 8;
  static const std::vector<std::int8_t> memory(static_cast<std::size_t>(kBytes * kMatrices), 1);
  std::vector<Entry> entries;
  add_streams(entries, memory.data(), kBytes, kMatrices, threads);
  double best = 0;
  for (const Figure& figure : race(entries, quick)) best = std::max(best, figure.value);
  return best * 1e9;
}

/// Those that KVANT_SCHEMES names; all, where it is not set.
bool is_asked(models::Scheme scheme) {
  const char* list = std::getenv("KVANT_SCHEMES");
  if (list == nullptr) return true;
  return ("," + std::string(list) + ",").find("," + std::string(to_string(scheme)) + ",") !=
         std::string::npos;
}

void ask(const std::filesystem::path& path, const std::string& what, const Options& options,
         Report& report) {
  const std::string isa(Context().isa());
  const models::ModelFiles files(path);
  for (const int threads : options.threads) {
    Context context({.threads = threads});
    const double read_bytes = streaming_read(threads, options.quick);
    std::vector<models::Scheme> schemes = models::all_schemes();
    if (files.config().stored_quantized) schemes.push_back(models::Scheme::stored);
    for (const models::Scheme scheme : schemes) {
      if (!is_asked(scheme)) continue;
      models::Request request;
      request.scheme = scheme;
      models::LoadOptions load;
      load.plan = make_plan(files.config(), request);
      models::Model model = load_model(context, path, files.config(), load);
      const Measured measured = measure(context, model, options.quick);
      Record record{.question = "model",
                    .threads = threads,
                    .isa = isa,
                    .dtype = std::string(to_string(scheme)),
                    .unit = "tok/s"};
      record.what = what + " write";
      record.value = measured.write.figure(1);
      record.ceiling = read_bytes / static_cast<double>(measured.token_bytes);
      report.add(record);
      record.what = what + " read";
      record.value = measured.read.figure(512);
      record.ceiling = 0;
      report.add(record);
      fmt::print("  {}: outside {:.0f} % of writing, {:.0f} % of reading; {:.1f} MB a token\n",
                 to_string(scheme), 100 * measured.write.outside(), 100 * measured.read.outside(),
                 static_cast<double>(measured.token_bytes) / 1e6);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(
      argc, argv, "model", "a language model end to end in every scheme, tokens per second");
  Report report(options, std::string(Context().isa()));
  const char* named = std::getenv("KVANT_MODEL");
  const std::filesystem::path file = named != nullptr ? named : kFetched;
  bool shapes = true;
  for (int i = 1; i < argc; ++i) shapes = shapes && std::string_view(argv[i]) != "--shape";
  if (shapes && (named != nullptr || std::filesystem::exists(file))) {
    ask(file, file.stem().string().substr(0, 11), options, report);
    return report.finish();
  }
  if (shapes)
    report.note("no model's file: random weights (bash examples/run.sh --real fetches one)");
  for (const Shape& s : options.shapes) {
    const RandomLlama model(s.m, s.n, s.k);
    ask(model.path(), fmt::format("{}x{}x{}", s.m, s.n, s.k), options, report);
  }
  return report.finish();
}
