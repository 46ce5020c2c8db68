// kvant run: a language model of any family, its linear layers in any weight format.

#include "calibration_windows.hpp"
#include "commands.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "chat_prompt.hpp"
#include "device_options.hpp"
#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/io/atomic_file.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/utf8.hpp"
#include "rank_figures.hpp"
#include "ranks.hpp"
#include "run_options.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MODELS
namespace {

using models::TokenId;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One run: the model and what is needed around it.
class Session {
 public:
  explicit Session(const RunOptions& options)
      : options_(options),
        files_(options.model),
        plan_(make_plan(files_.config(), options.request)),
        context_(ContextOptions{.threads = threads_of_rank(options.threads)}) {
    check_kind(options, config(), files_.path());
    agree_on_files(files_.path());
    for (const auto& text : {options.perplexity, options.calibrate}) {
      if (text) agree_on_files(*text);
    }
    if (options.prompt || options.chat || options.perplexity || options.calibrate) {
      tokenizer_.emplace(files_.tokenizer());
    }
    prompt_ids_ = ids_of_prompt();
    if (options.perplexity) evaluation_ids_ = ids_of_text(io::read_text_file(*options.perplexity));
    load();
    if (options.device_given) {
      report_["device"] =
          report_device(model_.placement.get(), between_devices_, options.quiet || !leads());
    }
    report_["scheme"] = to_string(plan_.scheme);
    if (options_.plan) report_["plan"] = *options_.plan;
    report_["mode"] = plan_.mode == Arithmetic::bitsandbytes ? "bitsandbytes" : "default";
    if (plan_.has_integer_products() || plan_.arithmetic != Arithmetic::kvant) {
      report_["arithmetic"] = models::arithmetic_name(plan_.arithmetic);
    }
    report_["threshold"] = plan_.threshold;
    report_["isa"] = context_.isa();
    report_["threads"] = context_.executor().concurrency();
    report_["weight_bytes"] = model_.weight_bytes();
    report_embeddings();
    report_["bytes_read"] = model_.bytes_read;
    report_expanded();
    if (options.kv != models::KvFormat::fp32) {
      report_["kv"] = to_string(options.kv);
      report_["kv_bytes_per_token"] = models::Cache::token_bytes(model_.block_config(), options.kv);
    }
  }

  void run() {
    if (options_.perplexity) run_perplexity();
    if (options_.logits) run_logits();
    if (options_.hidden) run_hidden();
    if (config().kind == models::ModelKind::encoder) {
      if (options_.prompt && !options_.hidden) run_masks();
    } else if (options_.generates()) {
      run_generation();
    }
    if (job_ranks() != nullptr) {
      report_["ranks"] = rank_figures(*job_ranks(), model_.bytes_read, model_.weight_bytes(),
                                      model_.placement ? model_.placement->bytes(true) : 0);
    }
    if (options_.json && leads()) {
      io::AtomicFile file(*options_.json);
      file.write(report_.dump(1) + "\n");
      file.commit();
    }
    if (interrupted()) throw Error(ErrorCode::cancelled, "interrupted");
  }

 private:
  [[nodiscard]] const models::Config& config() const { return files_.config(); }

  /// What is stored in few bits and takes 32 here is worth a word.
  void report_expanded() {
    if (model_.expanded.empty()) return;
    report_["expanded_layers"] = model_.expanded;
    if (options_.quiet || !leads()) return;
    const std::size_t count = model_.expanded.size();
    std::fprintf(stderr,
                 "%zu %s held in float32, since no weight format has what %s stored in: %s%s\n",
                 count, count == 1 ? "layer is" : "layers are", count == 1 ? "it is" : "they are",
                 model_.expanded.front().c_str(), count > 1 ? ", ..." : "");
  }

  void report_embeddings() {
    const std::string name(to_string(plan_.embeddings));
    report_["embeddings"] = name;
    if (!model_.table_sqnr_db) return;
    report_["embeddings_sqnr_db"] = *model_.table_sqnr_db;  // (null: infinite, nothing was lost)
    if (options_.quiet) return;
    std::fprintf(stderr, "[embeddings in %s: sqnr %.2f dB]\n", name.c_str(), *model_.table_sqnr_db);
  }

  /// Rows of the largest call there will be.
  [[nodiscard]] std::int64_t largest_call() const {
    std::size_t rows = std::max<std::size_t>(prompt_ids_.size(), 1);
    if (options_.decoder_ids) rows = std::max(rows, options_.decoder_ids->size());
    if (options_.perplexity) {
      const auto window = static_cast<std::size_t>(options_.window.value_or(config().n_positions));
      rows = std::max(rows, std::min(window, evaluation_ids_.size()));
    }
    return static_cast<std::int64_t>(rows);
  }

  [[nodiscard]] std::vector<TokenId> ids_of_text(const std::string& text) const {
    return program::ids_of_text(config(), *tokenizer_, text);
  }

  [[nodiscard]] std::vector<TokenId> ids_of_prompt() {
    std::vector<TokenId> ids;
    if (options_.ids) ids = *options_.ids;
    if (options_.prompt) {
      ids = tokenizer_->prefix();
      const std::vector<TokenId> text = tokenizer_->encode(*options_.prompt);
      ids.insert(ids.end(), text.begin(), text.end());
      if (config().kind != models::ModelKind::decoder) {  // an encoder reads a text to its end
        ids.insert(ids.end(), tokenizer_->suffix().begin(), tokenizer_->suffix().end());
      }
    }
    if (options_.chat) ids = ids_of_chat(files_, *tokenizer_, options_, end_ids_);
    // An empty prompt is the beginning of a text.
    if (ids.empty() && options_.generates() && config().kind == models::ModelKind::decoder) {
      ids = {static_cast<TokenId>(config().bos())};
    }
    return ids;
  }

  void show_progress(const char* what, std::int64_t done, std::int64_t of) const {
    if (options_.quiet || ::isatty(STDERR_FILENO) == 0) return;
    std::fprintf(stderr, "\r\033[K");
    if (done < of) {
      std::fprintf(stderr, "%s %lld of %lld", what, static_cast<long long>(done + 1),
                   static_cast<long long>(of));
    }
  }

  void load() {
    models::LoadOptions load_options;
    load_options.plan = plan_;
    load_options.skip = options_.skip;
    load_options.offload = options_.offload;
    load_options.offload.rows = largest_call();
    if (options_.formats) load_options.formats = options_.formats->layers;
    load_options.ranks = job_ranks();
    if (job_ranks() != nullptr && options_.device_given) {
      between_devices_ = share_devices(load_options.offload);
    }
    if (options_.adapter) load_options.adapter = *options_.adapter;
    if (options_.calibrate) {
      load_options.calibration_ids = ids_of_text(read_calibration_text(*options_.calibrate));
    } else if (plan_.calibrate) {
      load_options.calibration_ids = prompt_ids_;
    }
    load_options.progress = [this](std::int64_t block, std::int64_t count) {
      if (interrupted()) throw Error(ErrorCode::cancelled, "interrupted while loading");
      show_progress("loading block", block, count);
    };
    model_ = load_model(context_, files_.path(), config(), load_options);
    show_progress("", 1, 1);
  }

  [[nodiscard]] models::Perplexity evaluate_text(models::KvFormat kv) {
    models::EvaluateOptions evaluation;
    evaluation.kv = kv;
    evaluation.cancel = &interrupted();
    evaluation.progress = [this](std::int64_t done, std::int64_t of) {
      show_progress("evaluated", done, of);
    };
    const models::Perplexity result =
        evaluate(context_, model_, evaluation_ids_, options_.window.value_or(config().n_positions),
                 evaluation);
    show_progress("", 1, 1);
    return result;
  }

  void run_perplexity() {
    const auto start = Clock::now();
    const models::Perplexity result = evaluate_text(options_.kv);
    report_["tokens_per_second"] =
        static_cast<double>(evaluation_ids_.size()) / seconds_since(start);
    report_["tokens"] = result.tokens;
    report_["nll"] = result.nll;
    report_["perplexity"] = result.perplexity;
    std::printf("tokens      %lld\nnll         %.6f\nperplexity  %.6f\n",
                static_cast<long long>(result.tokens), result.nll, result.perplexity);
    if (options_.kv == models::KvFormat::fp32) return;
    // What rounding keys and values costs, on this very text.
    const models::Perplexity exact = evaluate_text(models::KvFormat::fp32);
    report_["perplexity_kv_fp32"] = exact.perplexity;
    std::printf("            %.6f with keys and values in fp32 (%s: %+.3f %%)\n", exact.perplexity,
                std::string(to_string(options_.kv)).c_str(),
                100 * (result.perplexity / exact.perplexity - 1));
  }

  /// What the head reads: of --ids, or of --decoder-ids behind them.
  [[nodiscard]] std::vector<float> hidden_of_ids() {
    if (config().kind == models::ModelKind::encoder) return encode(context_, model_, prompt_ids_);
    models::Cache cache(options_.kv);
    if (config().kind == models::ModelKind::decoder) {
      return forward(context_, model_, prompt_ids_, cache);
    }
    read_source(context_, model_, prompt_ids_, cache);
    return forward(context_, model_,
                   options_.decoder_ids.value_or(
                       std::vector<TokenId>{static_cast<TokenId>(config().decoder_start_id)}),
                   cache);
  }

  void write_rows(const std::string& file, const char* name, MatrixView<const float> rows) {
    for (std::int64_t r = 0; r < rows.rows(); ++r) {
      const float* row = rows.row_data(r);
      if (std::none_of(row, row + rows.cols(), [](float x) { return std::isnan(x); })) continue;
      throw Error(ErrorCode::not_finite, std::string(name) + " of token " + std::to_string(r) +
                                             " hold NaN: the weights hold NaN or infinities (kvant "
                                             "verify), or activations left the range of floats");
    }
    if (leads()) {
      io::SafeTensorsWriter writer;
      writer.add(name, rows);
      writer.write(file);
    }
    report_["prompt_ids"] = prompt_ids_;
  }

  void run_logits() {
    const std::vector<float> hidden = hidden_of_ids();
    const auto rows = static_cast<std::int64_t>(hidden.size()) / config().n_embd;
    std::vector<float> logits(static_cast<std::size_t>(rows * config().vocab_size));
    const MatrixView<float> view(logits.data(), rows, config().vocab_size);
    compute_logits(context_, model_, {hidden.data(), rows, config().n_embd}, view);
    write_rows(*options_.logits, "logits", view);
  }

  void run_hidden() {
    models::Cache cache(options_.kv);
    const std::vector<float> hidden = config().kind == models::ModelKind::decoder
                                          ? forward(context_, model_, prompt_ids_, cache)
                                          : encode(context_, model_, prompt_ids_);
    const auto rows = static_cast<std::int64_t>(prompt_ids_.size());
    write_rows(*options_.hidden, "hidden", {hidden.data(), rows, config().n_embd});
  }

  /// The prompt with the most likely token in place of each mask, and what else there may be.
  void run_masks() {
    std::optional<TokenId> mask;
    for (const char* spelling : {"[MASK]", "<mask>"}) {
      if (!mask) mask = tokenizer_->find(spelling);
    }
    if (!mask || std::find(prompt_ids_.begin(), prompt_ids_.end(), *mask) == prompt_ids_.end()) {
      throw models::RequestError(
          "the prompt has no mask to fill in (" +
          std::string(mask ? tokenizer_->token_bytes(*mask, false) : "its tokenizer knows none") +
          "); --hidden OUT writes the hidden states of a text");
    }
    const auto guesses = fill_masks(context_, model_, prompt_ids_, *mask);
    std::vector<TokenId> filled = prompt_ids_;
    nlohmann::ordered_json found = nlohmann::ordered_json::array();
    std::string lines;
    std::size_t next = 0;
    for (std::size_t i = 0; i < filled.size(); ++i) {
      if (filled[i] != *mask) continue;
      filled[i] = guesses[next].front().id;
      nlohmann::ordered_json candidates = nlohmann::ordered_json::array();
      lines += "mask " + std::to_string(next + 1) + " ";
      for (const models::MaskGuess& guess : guesses[next]) {
        const std::string token = tokenizer_->decode({guess.id}, false);
        char text[32];
        std::snprintf(text, sizeof text, " %.1f %%",
                      100.0 * static_cast<double>(guess.probability));
        lines += "  " + token + text;
        candidates.push_back(
            {{"id", guess.id}, {"token", token}, {"probability", guess.probability}});
      }
      lines += "\n";
      found.push_back({{"position", i}, {"candidates", std::move(candidates)}});
      ++next;
    }
    const std::string text = tokenizer_->decode(filled);
    std::printf("%s\n%s", text.c_str(), lines.c_str());
    report_["prompt_ids"] = prompt_ids_;
    report_["text"] = text;
    report_["masks"] = std::move(found);
  }

  /// Text is streamed as it comes; a run from --ids streams ids, because it has no tokenizer.
  void run_generation() {
    const bool as_text = options_.prompt.has_value() || options_.chat.has_value();
    models::Utf8Stream stream;
    std::string text;
    // An answer, unlike a continuation, begins without the space of its first word.
    const bool answers = config().kind == models::ModelKind::encoder_decoder;
    const auto show = [&](std::string part) {
      if (answers && text.empty() && part.starts_with(' ')) part.erase(0, 1);
      text += part;
      std::fwrite(part.data(), 1, part.size(), stdout);
      std::fflush(stdout);
    };
    bool first = true;
    models::GenerateOptions generation;
    generation.tokens = options_.tokens;
    generation.sampling = options_.sampling;
    generation.kv = options_.kv;
    generation.ignore_eos = options_.ignore_eos;
    generation.more_end_ids = end_ids_;
    generation.cancel = &interrupted();
    generation.on_token = [&](TokenId id) {
      show(as_text ? stream.push(tokenizer_->token_bytes(id))
                   : (first ? "" : ",") + std::to_string(id));
      first = false;
    };
    const auto start = Clock::now();
    const std::vector<TokenId> generated = generate(context_, model_, prompt_ids_, generation);
    const double seconds = seconds_since(start);
    if (as_text) show(stream.finish());
    std::printf("\n");
    report_["tokens_per_second"] = static_cast<double>(generated.size()) / seconds;
    report_["prompt_ids"] = prompt_ids_;
    report_["generated_ids"] = generated;
    if (as_text) report_["text"] = text;
    if (!options_.quiet && ::isatty(STDERR_FILENO) != 0) {
      std::fprintf(stderr, "[%s, %s, %.2f MB of weights, %.1f tokens/s]\n",
                   std::string(to_string(plan_.scheme)).c_str(),
                   std::string(context_.isa()).c_str(),
                   static_cast<double>(model_.weight_bytes()) / 1e6,
                   static_cast<double>(generated.size()) / seconds);
    }
  }

  const RunOptions& options_;
  models::ModelFiles files_;
  models::Plan plan_;
  Context context_;
  std::optional<models::Tokenizer> tokenizer_;
  std::vector<TokenId> prompt_ids_;
  std::vector<TokenId> evaluation_ids_;
  std::vector<std::int64_t> end_ids_;
  std::string between_devices_;  ///< how what their devices hold travels
  models::Model model_;
  nlohmann::ordered_json report_;
};

}  // namespace

int run_command(const Arguments& arguments) {
  const std::optional<RunOptions> options = parse_run_options(arguments);
  if (!options) return 0;
  (void)interrupted();  // from here on, Ctrl-C ends in order
  Session(*options).run();
  return 0;
}

#else

int run_command(const Arguments&) {
  throw Error(ErrorCode::unsupported,
              "kvant run needs kvant::models, which this program was built without");
}

#endif

}  // namespace kvant::program
