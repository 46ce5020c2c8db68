// Part of the program where kvant::models is.
#if KVANT_PROGRAM_MODELS
#include "run_options.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <utility>

#include "command_line.hpp"
#include "device_options.hpp"
#include "kvant/io/glob.hpp"

namespace kvant::program {
namespace {

constexpr const char* kRunDescription =
    "Examples:\n"
    "  kvant run MODEL --chat 'What is a cache line?'\n"
    "  kvant run MODEL --scheme llm-int8 --prompt 'Once upon a time' --tokens 100\n"
    "  kvant run MODEL --scheme int8-group --perplexity text.txt --window 512 --json "
    "figures.json\n"
    "  kvant run MODEL --scheme llm-int8 --device cuda --device-memory 6GB --chat 'Hello'\n"
    "  kvant run T5 --prompt 'translate English to German: The house is small.'\n"
    "  kvant run BERT --prompt 'Paris is the [MASK] of France.'\n"
    "  mpirun -np 4 kvant run MODEL --threads 2 --chat 'Hello'    (four processes share the "
    "model)\n\n"
    "Runs a language model from a folder in Hugging Face form or a GGUF file, with its linear "
    "layers\n"
    "in any weight format. Families: ";

constexpr std::int64_t kMaxTokens = 1'000'000'000;

std::string description() {
  std::string text = kRunDescription;
  std::size_t column = 26;
  for (const std::string_view family : models::families()) {
    if (column + family.size() > 86) {
      text += "\n";
      column = 0;
    }
    text.append(family).append(" ");
    column += family.size() + 1;
  }
  return text + "\n";
}

/// Digits of a number below 2^64.
std::uint64_t parse_seed(const std::string& text) {
  std::uint64_t seed = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, seed);
  if (error != std::errc() || next != end) {
    throw UsageError("--seed " + text.substr(0, 60) + " is not a whole number from 0 to 2^64 - 1");
  }
  return seed;
}

std::vector<models::TokenId> parse_ids(const char* flag, const std::string& text) {
  std::vector<models::TokenId> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    models::TokenId id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',')) {
      throw UsageError(std::string(flag) + " " + text.substr(0, 60) +
                       ": not a list of ids like 1,7,42 (at character " +
                       std::to_string(at - text.data()) + ")");
    }
    ids.push_back(id);
    if (next == end) return ids;
    at = next + 1;
  }
}

/// The words as they were given; what they mean is checked behind them.
struct Words {
  std::string model, scheme, embeddings, mode, arithmetic, outliers, calibrate, prompt, chat,
      system, form, ids, decoder_ids, adapter, plan, perplexity, logits, hidden, json, kv, seed;
  float threshold = 0;
  std::int64_t window = 0;
  std::int64_t group = 0;
  DeviceWords device;
};

void add_model_options(CLI::App& app, Words& words, RunOptions& options) {
  app.add_option("MODEL", words.model, "a folder, or a .gguf file")->required();
  app.add_option("--scheme", words.scheme,
                 "linear layers in " + models::scheme_names() +
                     "\n(default: fp32; for a quantized folder or GGUF file stored, its layers as "
                     "they are, or\n"
                     "llm-int8 where they are 8-bit ones of bitsandbytes)")
      ->type_name("NAME");
  app.add_option("--embeddings", words.embeddings,
                 "the table of tokens, and the head where it is the same, in " +
                     models::embeddings_names() +
                     "\n(default: float; with scheme stored the blocks of a GGUF file)")
      ->type_name("NAME");
  app.add_option("--mode", words.mode,
                 "default, or bitsandbytes: that library's arithmetic, bit for bit")
      ->type_name("NAME")
      ->check(CLI::IsMember({"default", "bitsandbytes"}));
  app.add_option(
         "--arithmetic", words.arithmetic,
         "stored, int8-group, and schemes of up to 4 bits: int8 (default); int15: activations of\n"
         "15 bits, no outliers; or exact: they stay in float")
      ->type_name("NAME")
      ->check(CLI::IsMember({"exact", "int8", "int15"}));
  app.add_option("--group", words.group,
                 "schemes with groups: weights that share a scale, a multiple of 32\n"
                 "(default: 64; int8-group 128)")
      ->type_name("N");
  app.add_option("--threshold", words.threshold,
                 "int8 products: inputs of at least this magnitude are outliers and stay in float\n"
                 "(default: 6, or what the folder says; 0: none)")
      ->type_name("T");
  app.add_option("--outliers", words.outliers,
                 "which of them: per-call (default): a feature with one in any row of a call;\n"
                 "per-row: the elements themselves, so that no row depends on others")
      ->type_name("NAME")
      ->check(CLI::IsMember({"per-call", "per-row"}));
  app.add_option(
         "--calibrate", words.calibrate,
         "text that shows the outlier features while loading, whose weights are kept in 16\n"
         "bits: llm-int8 (default: the prompt, else random ids), formats of up to 8 bits")
      ->type_name("FILE");
  app.add_option("--skip", options.skip,
                 "keep linear layers in float whose full name matches, e.g. '*.layers.0.*';\n"
                 "may be repeated")
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--plan", words.plan,
                 "a format for each layer, as kvant select --measure --plan writes it; the others\n"
                 "stay in --scheme (default: fp32), and --arithmetic is the plan's")
      ->type_name("FILE");
  app.add_option(
         "--adapter", words.adapter,
         "a LoRA adapter in PEFT's form, run in float beside the layers (kvant merge writes\n"
         "it into them)")
      ->type_name("DIR");
  app.add_option("--kv", words.kv,
                 "keys and values of the tokens seen: fp32 (default), or int8: a scale for each\n"
                 "token and head. --perplexity says what that costs")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "int8"}));
  app.add_option("--threads", options.threads, "threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

void add_text_options(CLI::App& app, Words& words, RunOptions& options) {
  auto* prompt = app.add_option("--prompt", words.prompt,
                                "continue this text; T5 answers it, BERT fills in its masks")
                     ->type_name("TEXT");
  auto* chat = app.add_option("--chat", words.chat, "answer this, by the model's chat template")
                   ->type_name("TEXT");
  auto* ids =
      app.add_option("--ids", words.ids, "ids like 1,7,42 in place of a prompt; needs no tokenizer")
          ->type_name("LIST");
  app.add_option("--system", words.system, "the system message of --chat")
      ->type_name("TEXT")
      ->needs(chat);
  app.add_option("--template", words.form,
                 "the form of --chat: " + models::chat_form_names() +
                     "\n(default: as the model's template has it)")
      ->type_name("NAME")
      ->needs(chat);
  app.add_option("--tokens", options.tokens, "ids to generate at most (default: 64)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{0}, kMaxTokens));
  app.add_option("--temperature", options.sampling.temperature,
                 "above 0: draw, the flatter the higher (default: 0, the most likely id)")
      ->type_name("T");
  app.add_option("--top-k", options.sampling.top_k, "draw among the k most likely (default: all)")
      ->type_name("K");
  app.add_option("--top-p", options.sampling.top_p,
                 "draw among the most likely, up to this sum of probabilities (default: 1)")
      ->type_name("P");
  app.add_option("--seed", words.seed, "of the draws (default: 0)")->type_name("N");
  app.add_flag("--ignore-eos", options.ignore_eos, "go on after an end token");
  prompt->excludes(ids)->excludes(chat);
  chat->excludes(ids);
  auto* perplexity =
      app.add_option("--perplexity", words.perplexity, "measure how well a text is predicted")
          ->type_name("FILE");
  app.add_option("--window", words.window,
                 "ids per call there (default: the longest of the training)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{2}, kMaxTokens))
      ->needs(perplexity);
  auto* logits = app.add_option("--logits", words.logits,
                                "write the logits of --ids as tensor \"logits\"; of T5, those of "
                                "--decoder-ids")
                     ->type_name("OUT")
                     ->needs(ids);
  app.add_option("--decoder-ids", words.decoder_ids,
                 "T5: what the decoder has written so far (default: its start token)")
      ->type_name("LIST")
      ->needs(logits);
  app.add_option("--hidden", words.hidden,
                 "write the last hidden state of each id as tensor \"hidden\": BERT's\n"
                 "embeddings of a text; of T5 those of the encoder")
      ->type_name("OUT");
  app.add_option("--json", words.json, "write everything that was found as one object")
      ->type_name("FILE");
  app.add_flag("--quiet", options.quiet, "no progress");
}

}  // namespace

std::optional<RunOptions> parse_run_options(const Arguments& arguments) {
  RunOptions options;
  Words words;
  CLI::App app(description(), "kvant run");
  add_model_options(app, words, options);
  add_device_options(app, words.device);
  add_text_options(app, words, options);
  if (!parse(app, arguments)) return std::nullopt;

  const auto given = [&](const char* name) { return app.get_option(name)->count() > 0; };
  const auto text = [&](const char* name, const std::string& value) {
    return given(name) ? std::optional(value) : std::nullopt;
  };
  options.model = words.model;
  if (given("--scheme")) {
    options.request.scheme = models::scheme_from_name(words.scheme);
    if (!options.request.scheme) {
      throw UsageError("--scheme " + words.scheme.substr(0, 60) + " is not one of " +
                       models::scheme_names());
    }
  }
  if (given("--embeddings")) {
    options.request.embeddings = models::embeddings_from_name(words.embeddings);
    if (!options.request.embeddings) {
      throw UsageError("--embeddings " + words.embeddings.substr(0, 60) + " is not one of " +
                       models::embeddings_names());
    }
  }
  if (given("--mode")) {
    options.request.mode = words.mode == "default" ? Arithmetic::kvant : Arithmetic::bitsandbytes;
  }
  if (given("--arithmetic")) {
    options.request.arithmetic = models::arithmetic_from_name(words.arithmetic);
  }
  if (given("--group")) options.request.group = words.group;
  if (given("--threshold")) {
    if (!(words.threshold >= 0)) {
      throw UsageError("--threshold " + std::to_string(words.threshold) +
                       " is not a number from 0 up");
    }
    options.request.threshold = words.threshold;
  }
  if (given("--outliers")) {
    options.request.outliers = words.outliers == "per-row" ? Outliers::per_row : Outliers::per_call;
  }
  if (given("--kv")) options.kv = *models::kv_format_from_name(words.kv);
  options.adapter = text("--adapter", words.adapter);
  options.offload = offload_of(words.device, options.skip);  // --cpu-fp32 skips layers too
  options.plan = text("--plan", words.plan);
  if (options.plan) {
    options.formats = models::read_format_plan(*options.plan);
    options.request.layer_formats = true;
    for (const std::string& pattern : options.skip) {
      for (const auto& [layer, format] : options.formats->layers) {
        if (!io::glob_match(pattern, layer)) continue;
        throw UsageError("--skip '" + pattern + "': the plan has " + layer + " in " +
                         to_string(format) + "; leave one of the two out");
      }
    }
    if (!options.request.arithmetic) options.request.arithmetic = options.formats->arithmetic;
  }
  options.device_given = words.device.device != "cpu";
  options.calibrate = text("--calibrate", words.calibrate);
  options.request.calibration_text = options.calibrate.has_value();
  options.prompt = text("--prompt", words.prompt);
  options.chat = text("--chat", words.chat);
  options.system = text("--system", words.system);
  if (given("--template")) {
    options.form = models::chat_form_from_name(words.form);
    if (!options.form) {
      throw UsageError("--template " + words.form.substr(0, 60) + " is not one of " +
                       models::chat_form_names());
    }
  }
  if (given("--ids")) options.ids = parse_ids("--ids", words.ids);
  if (given("--decoder-ids")) options.decoder_ids = parse_ids("--decoder-ids", words.decoder_ids);
  options.tokens_given = given("--tokens");
  if (given("--seed")) options.sampling.seed = parse_seed(words.seed);
  (void)models::Sampler(options.sampling);  // checks it
  options.perplexity = text("--perplexity", words.perplexity);
  if (given("--window")) options.window = words.window;
  options.logits = text("--logits", words.logits);
  options.hidden = text("--hidden", words.hidden);
  for (const char* flag : {"--chat", "--perplexity", "--tokens", "--temperature", "--top-k",
                           "--top-p", "--seed", "--ignore-eos", "--kv"}) {
    if (given(flag))
      options.writing_flags.append(options.writing_flags.empty() ? "" : ", ").append(flag);
  }
  options.json = text("--json", words.json);
  for (const auto& [a, b] : {std::pair(&words.logits, &words.hidden),
                             {&words.logits, &words.json},
                             {&words.hidden, &words.json}}) {
    if (!a->empty() && *a == *b) throw UsageError("two results would be written to " + *a);
  }
  if (!options.prompt && !options.chat && !options.ids && !options.perplexity) {
    throw UsageError("nothing to do: give --prompt, --chat, --ids or --perplexity");
  }
  return options;
}

void check_kind(const RunOptions& options, const models::Config& config,
                const std::filesystem::path& model) {
  const auto refuse = [&](const std::string& what) {
    throw models::RequestError(model.string() + " is a " + std::string(config.model_type) + ": " +
                               what);
  };
  switch (config.kind) {
    case models::ModelKind::decoder:
      if (options.decoder_ids) refuse("--decoder-ids is for models with an encoder and a decoder");
      break;
    case models::ModelKind::encoder_decoder:
      if (options.perplexity) {
        refuse("--perplexity is for models that continue a text; this one answers it");
      }
      break;
    case models::ModelKind::encoder:
      if (!options.writing_flags.empty()) {
        refuse("an encoder, which reads a text and writes none, has no use for " +
               options.writing_flags);
      }
      if (options.decoder_ids) refuse("--decoder-ids is for models with a decoder");
      if (options.ids && !options.logits && !options.hidden) {
        refuse("--ids needs --logits OUT (of a masked language model) or --hidden OUT");
      }
      break;
  }
}

}  // namespace kvant::program
#endif
