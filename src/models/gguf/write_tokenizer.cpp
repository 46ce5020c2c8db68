// tokenizer.json as the vocabulary of a GGUF file.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/models/tokenizer.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/gguf/pre_tokenizers.hpp"
#include "models/gguf/token_types.hpp"
#include "models/gguf/unigram_tokens.hpp"
#include "models/gguf/word_pieces.hpp"
#include "models/text/subword.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

/// Of tokens that no merge makes: joined last.
constexpr float kLowestScore = -1e6f;

class TokenizerWriter {
 public:
  TokenizerWriter(const json& tokenizer, const std::string& name, const Config& config,
                  io::GgufWriter& writer, std::vector<io::Warning>& warnings)
      : json_(tokenizer),
        name_(name),
        config_(config),
        writer_(writer),
        warnings_(warnings),
        model_(tokenizer.at("model")),
        // Checks all that is read below, and that kvant can do what the file says.
        tokenizer_(tokenizer.dump(), name) {}

  void run() {
    const std::string type = model_.value("type", "BPE");
    if (type != "BPE" && type != "Unigram" && type != "WordPiece") {
      unsupported("the tokenizer's model is of type " + type +
                  " and not BPE, Unigram or WordPiece");
    }
    collect_tokens();
    if (type == "Unigram") {
      require_said(write_gguf_unigram(json_, types_, writer_));
    } else if (type == "WordPiece") {
      require_said(write_gguf_word_pieces(json_, tokens_, types_, writer_));
    } else if (is_byte_level(json_)) {
      write_byte_level();
    } else {
      write_sentencepiece();
    }
    writer_.set("tokenizer.ggml.tokens", tokens_);
    writer_.set("tokenizer.ggml.token_type", types_);
    if (type == "WordPiece") {
      write_tokens_around_words();
    } else {
      write_special_tokens();
    }
    const bool encoder = config_.kind == ModelKind::encoder;
    if (type == "BPE" && encoder) write_encoder_tokens();
    if (type != "BPE" || encoder) {
      set_found("tokenizer.ggml.padding_token_id", {"<pad>", "[PAD]"});
    }
  }

 private:
  void require_said(const std::string& problem) const {
    if (!problem.empty()) unsupported(problem);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorCode::unsupported, name_ + ": " + what +
                                            ", which a GGUF file cannot say; --no-tokenizer "
                                            "leaves the tokenizer out");
  }

  void set_token(std::int64_t id, const std::string& spelling, int type) {
    if (id >= config_.vocab_size) {
      ++beyond_;
      return;
    }
    tokens_[static_cast<std::size_t>(id)] = spelling;
    types_[static_cast<std::size_t>(id)] = type;
  }

  /// As many tokens as the model has embeddings: llama.cpp asks for it.
  void collect_tokens() {
    const auto count = static_cast<std::size_t>(config_.vocab_size);
    tokens_.resize(count);
    types_.assign(count, kUnusedToken);
    const json& vocabulary = model_.at("vocab");
    const bool bytes = model_.value("byte_fallback", false) && !is_byte_level(json_);
    const auto add = [&](std::int64_t id, const std::string& spelling) {
      const bool byte = spelling.size() == 6 && spelling.starts_with("<0x") && spelling[5] == '>';
      set_token(id, spelling, byte && bytes ? kByteToken : kNormalToken);
    };
    if (vocabulary.is_array()) {  // Unigram's: pairs of token and score
      std::int64_t id = 0;
      for (const json& each : vocabulary) add(id++, each.at(0).get<std::string>());
    } else {
      for (const auto& [spelling, id] : vocabulary.items()) add(id.get<std::int64_t>(), spelling);
    }
    for (const json& added : json_.value("added_tokens", json::array())) {
      const bool special = added.value("special", false);
      set_token(added.at("id").get<std::int64_t>(), added.at("content").get<std::string>(),
                special ? kControlToken : kUserDefinedToken);
    }
    for (std::size_t id = 0; id < count; ++id) {
      if (types_[id] == kUnusedToken) tokens_[id] = "[PAD" + std::to_string(id) + "]";
    }
    if (beyond_ > 0) {
      warnings_.push_back(
          {io::WarningKind::config, name_ + ": " + std::to_string(beyond_) +
                                        " tokens have no embedding (vocab_size is " +
                                        std::to_string(config_.vocab_size) + ") and are left out"});
    }
  }

  void write_byte_level() {
    std::string pre = gguf_pre_tokenizer(json_);
    if (pre.empty()) unsupported("text is split in a way (pre_tokenizer, normalizer)");
    if (pre == "gpt-2" && config_.kind == ModelKind::encoder) pre = "roberta-bpe";  // the same
    writer_.set("tokenizer.ggml.model", "gpt2");
    writer_.set("tokenizer.ggml.pre", pre);
    std::vector<std::string> merges;
    for (const json& merge : model_.at("merges")) {
      merges.push_back(merge.is_string()
                           ? merge.get<std::string>()
                           : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
    }
    writer_.set("tokenizer.ggml.merges", std::move(merges));
  }

  /// Merges become scores: the earlier, the higher.
  void write_sentencepiece() {
    const std::optional<bool> prefix = space_prefix();
    if (!prefix || !model_.value("byte_fallback", false)) {
      unsupported("the model is neither byte-level nor SentencePiece's with bytes");
    }
    std::unordered_map<std::string, float> scores;
    float rank = 0;
    for (const json& merge : model_.at("merges")) {
      std::string joined;
      if (merge.is_string()) {
        joined = merge.get<std::string>();
        joined.erase(joined.find(' '), 1);  // the tokenizer has checked that there is one
      } else {
        joined = merge.at(0).get<std::string>() + merge.at(1).get<std::string>();
      }
      scores.emplace(std::move(joined), -rank);
      ++rank;
    }
    std::vector<float> by_id(tokens_.size(), 0.0f);
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kNormalToken) continue;
      const auto it = scores.find(tokens_[id]);
      by_id[id] = it == scores.end() ? kLowestScore : it->second;
    }
    const json unknown = model_.value("unk_token", json());
    if (unknown.is_string()) {
      const auto id = tokenizer_.find(unknown.get<std::string>());
      if (id && *id < config_.vocab_size) {
        types_[static_cast<std::size_t>(*id)] = kUnknownToken;
        writer_.set("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(*id));
      }
    }
    writer_.set("tokenizer.ggml.model", "llama");
    writer_.set("tokenizer.ggml.pre", "default");
    writer_.set("tokenizer.ggml.scores", std::move(by_id));
    writer_.set("tokenizer.ggml.add_space_prefix", *prefix);
  }

  /// Whether a text gets a space in front; nothing: spaces are treated in another way than
  /// SentencePiece's.
  [[nodiscard]] std::optional<bool> space_prefix() const {
    const json normalizer = json_.value("normalizer", json());
    const json splitter = json_.value("pre_tokenizer", json());
    if (splitter.is_object() && normalizer.is_null()) {
      if (splitter.value("type", "") != "Metaspace" || splitter.value("split", true) ||
          splitter.value("replacement", std::string(kMetaspace)) != kMetaspace) {
        return std::nullopt;
      }
      const bool adds = splitter.value("add_prefix_space", true);
      return splitter.value("prepend_scheme", adds ? "always" : "never") != "never";
    }
    if (!splitter.is_null() || !normalizer.is_object()) return std::nullopt;
    const json steps = normalizer.value("type", "") == "Sequence"
                           ? normalizer.value("normalizers", json::array())
                           : json::array({normalizer});
    bool prepends = false;
    bool replaces = false;
    for (const json& step : steps) {
      const std::string type = step.value("type", "");
      if (type == "Prepend" && step.value("prepend", "") == kMetaspace) {
        prepends = true;
      } else if (type == "Replace" && step.value("content", "") == kMetaspace) {
        replaces = true;
      } else {
        return std::nullopt;
      }
    }
    return replaces ? std::optional(prepends) : std::nullopt;
  }

  void set_id(const char* key, std::int64_t id) {
    if (id >= 0 && id < config_.vocab_size) writer_.set(key, static_cast<std::uint32_t>(id));
  }

  /// The id of the first of these tokens that there is.
  void set_found(const char* key, std::initializer_list<const char*> tokens) {
    for (const char* token : tokens) {
      const auto id = tokenizer_.find(token);
      if (!id) continue;
      set_id(key, *id);
      return;
    }
  }

  /// BERT's tokenizer puts them around every text.
  void write_tokens_around_words() {
    if (tokenizer_.prefix().size() != 1 || tokenizer_.suffix().size() != 1) {
      unsupported("its post_processor does not put one token before a text and one behind it");
    }
    set_id("tokenizer.ggml.bos_token_id", tokenizer_.prefix().front());
    set_id("tokenizer.ggml.seperator_token_id", tokenizer_.suffix().front());
    set_found("tokenizer.ggml.unknown_token_id", {model_.value("unk_token", "[UNK]").c_str()});
    set_found("tokenizer.ggml.mask_token_id", {"[MASK]"});
    writer_.set("tokenizer.ggml.add_bos_token", true);
    writer_.set("tokenizer.ggml.add_sep_token", true);
  }

  /// Beside what stands around a text, RoBERTa's other tokens.
  void write_encoder_tokens() {
    const bool ends = !tokenizer_.suffix().empty();
    if (ends) set_id("tokenizer.ggml.seperator_token_id", tokenizer_.suffix().front());
    writer_.set("tokenizer.ggml.add_sep_token", ends);
    set_found("tokenizer.ggml.unknown_token_id", {"<unk>"});
    set_found("tokenizer.ggml.mask_token_id", {"<mask>"});
  }

  /// What stands around a text, and what ends an answer.
  void write_special_tokens() {
    const std::vector<TokenId>& before = tokenizer_.prefix();
    const std::vector<TokenId>& behind = tokenizer_.suffix();
    const std::vector<std::int64_t>& ends = config_.eos_token_ids;
    std::int64_t bos = config_.bos_token_id;
    std::int64_t eos = ends.empty() ? -1 : ends.front();
    if (!before.empty()) bos = before.front();
    if (!behind.empty()) eos = behind.front();
    if (before.size() > 1 || behind.size() > 1) {
      unsupported("its post_processor puts several tokens around a text");
    }
    set_id("tokenizer.ggml.bos_token_id", bos);
    set_id("tokenizer.ggml.eos_token_id", eos);
    std::vector<std::int64_t> more;
    std::copy_if(ends.begin(), ends.end(), std::back_inserter(more),
                 [&](std::int64_t id) { return id != eos; });
    if (!more.empty()) set_id("tokenizer.ggml.eot_token_id", more[0]);
    if (more.size() > 1) set_id("tokenizer.ggml.eom_token_id", more[1]);
    writer_.set("tokenizer.ggml.add_bos_token", !before.empty());
    writer_.set("tokenizer.ggml.add_eos_token", !behind.empty());
  }

  const json& json_;
  const std::string& name_;
  const Config& config_;
  io::GgufWriter& writer_;
  std::vector<io::Warning>& warnings_;
  const json& model_;
  Tokenizer tokenizer_;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
  std::size_t beyond_ = 0;
};

}  // namespace

void write_gguf_tokenizer(const json& tokenizer, const std::string& name, const Config& config,
                          io::GgufWriter& writer, std::vector<io::Warning>& warnings) {
  try {
    TokenizerWriter(tokenizer, name, config, writer, warnings).run();
  } catch (const json::exception& error) {
    throw Error(ErrorCode::invalid_file, name + ": " + error.what());
  }
}

void copy_gguf_tokenizer(const io::Gguf& file, io::GgufWriter& writer) {
  for (const std::string_view view : file.keys()) {
    const std::string key(view);
    if (!key.starts_with("tokenizer.") || key == kGgufTokenTypeCount) continue;
    if (const auto text = file.text(key)) {
      writer.set(key, std::string(*text));
    } else if (const auto truth = file.boolean(key)) {
      writer.set(key, *truth);
    } else if (const auto integer = file.integer(key)) {
      if (*integer == static_cast<std::int64_t>(static_cast<std::uint32_t>(*integer))) {
        writer.set(key, static_cast<std::uint32_t>(*integer));
      } else {
        writer.set(key, static_cast<std::int32_t>(*integer));  // -1: none
      }
    } else if (const auto texts = file.texts(key)) {
      writer.set(key, std::vector<std::string>(texts->begin(), texts->end()));
    } else if (const auto numbers = file.numbers(key)) {
      if (key == "tokenizer.ggml.token_type") {
        std::vector<std::int32_t> types;
        for (const double number : *numbers) {
          types.push_back(number >= 0 && number < 100 ? static_cast<std::int32_t>(number) : 0);
        }
        writer.set(key, std::move(types));
      } else if (key == "tokenizer.ggml.precompiled_charsmap") {
        std::vector<std::uint8_t> bytes;
        for (const double number : *numbers) {
          const bool byte = number >= -128 && number <= 255;
          bytes.push_back(static_cast<std::uint8_t>(byte ? static_cast<int>(number) & 0xFF : 0));
        }
        writer.set(key, std::move(bytes));
      } else {
        std::vector<float> values;
        for (const double number : *numbers) values.push_back(static_cast<float>(number));
        writer.set(key, std::move(values));
      }
    }
  }
}

}  // namespace kvant::models
