// The sizes in config.json against the shapes of the tensors, for families of the table.

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "io/checkpoint/linear_rules.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/architecture.hpp"
#include "look/text_table.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

/// A size and the key that says it; nothing where config.json leaves it to its family.
struct Size {
  std::string key;
  std::uint64_t value;
};

/// A linear layer's weight as it multiplies, however it is stored.
struct Weight {
  std::string tensor;
  std::uint64_t outputs = 0;
  std::uint64_t inputs = 0;
  bool quantized = false;
};

class SizeCheck {
 public:
  SizeCheck(const std::string& file, const io::Architecture& family, const io::ModelHints& hints,
            const nlohmann::json& config, const TensorSet& tensors, io::Findings& findings)
      : file_(file),
        family_(family),
        rules_(hints),
        config_(config),
        tensors_(tensors),
        find_([&tensors](const std::string& name) { return tensors.find(name); }),
        findings_(findings) {}

  void run() {
    if (const auto hidden = size_of({"hidden_size", "n_embd", "d_model"})) {
      check_table(*hidden);
      check_heads(*hidden);
    }
    if (const auto inner = size_of({"intermediate_size", "n_inner", "ffn_dim", "d_ff"})) {
      const std::string_view up = family_.linears.up;
      const bool fused = up.find("gate_up") != std::string_view::npos;
      check_outputs(up, *inner, fused ? 2 * inner->value : inner->value,
                    fused ? "twice that many outputs" : "outputs");
    }
  }

 private:
  [[nodiscard]] std::optional<Size> size_of(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
      const auto it = config_.find(key);
      if (it == config_.end() || !it->is_number_unsigned()) continue;
      return Size{key, it->get<std::uint64_t>()};
    }
    return std::nullopt;
  }

  /// The weight of a layer of one block; nothing where there is none, or where it is too broken to
  /// have sizes, which is said elsewhere.
  [[nodiscard]] std::optional<Weight> weight(std::string_view linear, long long block) const {
    if (linear.empty()) return std::nullopt;
    for (const bool with_prefix : {true, false}) {
      const std::string name = family_.linear_name(linear, block, with_prefix);
      for (const io::StoredFormat* form : io::stored_formats()) {
        const io::TensorInfo* info = find_(name + std::string(form->codes())).info;
        if (info == nullptr || io::form_of(find_, *info) != form) continue;
        if (auto found = as_weight(*form, *info)) return found;
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] std::optional<Weight> as_weight(const io::StoredFormat& form,
                                                const io::TensorInfo& info) const {
    if (form.quant_method().empty()) {
      if (info.shape.size() != 2) return std::nullopt;
      const bool transposed = family_.transposed;
      return Weight{info.name, info.shape[transposed ? 1 : 0], info.shape[transposed ? 0 : 1],
                    false};
    }
    try {
      const auto layer = form.recognise(find_, info, rules_);
      if (!layer) return std::nullopt;
      return Weight{info.name, static_cast<std::uint64_t>(layer->outputs),
                    static_cast<std::uint64_t>(layer->inputs), true};
    } catch (const io::FormatError&) {
      return std::nullopt;
    }
  }

  void differs(const Size& size, const std::string& tensor, std::uint64_t got,
               const std::string& what) {
    findings_.push_back({io::Severity::error, "config",
                         file_ + ": " + size.key + " is " + std::to_string(size.value) +
                             ", but tensor " + io::in_quotes(tensor) + " has " +
                             std::to_string(got) + " " + what});
  }

  /// A layer in every block: the first that differs is named. Of a quantized one, whose sizes may
  /// stand in a text beside its codes, the inputs too, which are the model's width.
  void check_outputs(std::string_view linear, const Size& size, std::uint64_t wanted,
                     const std::string& what) {
    const auto hidden = size_of({"hidden_size", "n_embd", "d_model"});
    for (long long block = 0; const auto found = weight(linear, block); ++block) {
      if (found->outputs != wanted) return differs(size, found->tensor, found->outputs, what);
      if (found->quantized && hidden && found->inputs != hidden->value) {
        return differs(*hidden, found->tensor, found->inputs, "inputs");
      }
    }
  }

  void check_table(const Size& hidden) {
    if (family_.tokens.empty()) return;
    const io::TensorInfo* table = nullptr;
    for (const std::string_view prefix : {family_.prefix, std::string_view()}) {
      if (table != nullptr) break;
      table = tensors_.find(std::string(prefix) + std::string(family_.tokens) + ".weight").info;
    }
    if (table == nullptr || table->shape.size() != 2) return;
    const io::StoredFormat* form = io::form_of(find_, *table);
    if (form != nullptr && !form->quant_method().empty()) return;
    const auto vocabulary = size_of({"vocab_size"});
    if (vocabulary && table->shape[0] != vocabulary->value) {
      differs(*vocabulary, table->name, table->shape[0], "rows");
    }
    const Size width = size_of({"word_embed_proj_dim"}).value_or(hidden);  // OPT's
    if (table->shape[1] != width.value) differs(width, table->name, table->shape[1], "columns");
  }

  void check_heads(const Size& hidden) {
    const auto heads = size_of({"num_attention_heads", "n_head", "num_heads"});
    if (!heads || heads->value == 0) return;
    const auto head_dim = size_of({"head_dim", "d_kv"});
    if (!head_dim && hidden.value % heads->value != 0) {
      findings_.push_back({io::Severity::error, "config",
                           file_ + ": " + hidden.key + " " + std::to_string(hidden.value) +
                               " is no multiple of " + heads->key + " " +
                               std::to_string(heads->value)});
      return;
    }
    const std::uint64_t width = head_dim ? head_dim->value : hidden.value / heads->value;
    const std::string what = "outputs, heads of " + std::to_string(width);
    check_outputs(family_.linears.q, *heads, heads->value * width, what);
    const Size kv_heads = size_of({"num_key_value_heads"}).value_or(*heads);
    check_outputs(family_.linears.k, kv_heads, kv_heads.value * width, what);
  }

  const std::string& file_;
  const io::Architecture& family_;
  const io::LinearRules rules_;
  const nlohmann::json& config_;
  const TensorSet& tensors_;
  const io::FindTensor find_;
  io::Findings& findings_;
};

}  // namespace

void verify_sizes(const std::string& file, const io::ModelHints& hints,
                  const nlohmann::json& config, const TensorSet& tensors, io::Findings& findings) {
  if (!config.is_object()) return;
  const auto has = [&](const char* key) { return config.contains(key); };
  if (!has("model_type")) {
    // (A folder of tensors with quantization_config alone is no model, and nobody misses it.)
    if (!has("architectures") && !has("hidden_size") && !has("n_embd")) return;
    findings.push_back({io::Severity::warning, "config",
                        file + ": model_type is missing, which says what family the model is of: "
                               "it is not run, and its sizes are not compared with the tensors"});
    return;
  }
  const io::Architecture* family = io::find_architecture(hints.model_type);
  if (family != nullptr) SizeCheck(file, *family, hints, config, tensors, findings).run();
}

}  // namespace kvant::look
