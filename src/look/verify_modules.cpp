// Would transformers load it? It makes 8-bit (4-bit) layers of the modules that it chooses by
// itself, whatever the file holds: codes in a float layer, and floats in an 8-bit one, are both
// nonsense.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/linear_rules.hpp"
#include "io/checkpoint/skip_modules.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

/// Entries times layers that are compared; a list of a real model is far below.
constexpr std::size_t kMaxComparisons = 20'000'000;

class ModuleCheck {
 public:
  ModuleCheck(const std::string& file, const io::ModelHints& hints, const nlohmann::json& section,
              const TensorSet& tensors, io::Findings& findings)
      : file_(file),
        hints_(hints),
        tensors_(tensors),
        find_([&tensors](const std::string& name) { return tensors.find(name); }),
        rules_(hints),
        findings_(findings) {
    const auto it = section.find("llm_int8_skip_modules");
    if (it == section.end() || !it->is_array()) return;
    list_.emplace();
    for (const nlohmann::json& entry : *it) {
      if (entry.is_string()) list_->push_back(entry.get<std::string>());
    }
  }

  void run() {
    std::size_t weights = 0;
    bool any_quantized = false;
    for_each_weight([&](const std::string&, const io::TensorInfo&, bool quantized) {
      ++weights;
      any_quantized = any_quantized || quantized;
    });
    if (!any_quantized) return;  // which is said already
    if (list_ && list_->size() > kMaxComparisons / std::max<std::size_t>(1, weights)) {
      add(io::Severity::warning, "llm_int8_skip_modules has " + std::to_string(list_->size()) +
                                     " entries, too many to compare with the layers");
      return;
    }
    for_each_weight([&](const std::string& layer, const io::TensorInfo& info, bool quantized) {
      const io::WeightKind kind = rules_.judge(layer, as_matrix(info, quantized), find_);
      if (quantized) {
        check_quantized(layer, kind);
      } else {
        check_float(layer, kind);
      }
    });
    if (list_) check_tied_heads();
  }

 private:
  template <class Visit>
  void for_each_weight(Visit visit) const {
    for (const io::TensorFile& file : tensors_.files()) {
      for (const io::TensorInfo& info : file.tensors()) {
        const auto layer = io::layer_of_weight(info.name);
        const io::StoredFormat* form = layer ? io::form_of(find_, info) : nullptr;
        if (form != nullptr) visit(std::string(*layer), info, !form->quant_method().empty());
      }
    }
  }

  /// 4-bit codes are a column of bytes: what the rules ask for is a matrix.
  static io::TensorInfo as_matrix(const io::TensorInfo& info, bool quantized) {
    io::TensorInfo matrix = info;
    if (quantized) matrix.dtype = DType::int8;
    return matrix;
  }

  void add(io::Severity severity, const std::string& text) {
    findings_.push_back({severity, "config", file_ + ": " + text});
  }
  /// An error where the model is known well, else a warning.
  void add_judged(const std::string& text) {
    if (rules_.known()) return add(io::Severity::error, text);
    add(io::Severity::warning,
        text + " (a guess: model_type " + io::in_quotes(hints_.model_type) + " is not known here)");
  }

  [[nodiscard]] const std::string* entry_for(const std::string& module) const {
    for (const std::string& entry : *list_) {
      if (io::skips(entry, module).value_or(false)) return &entry;
    }
    return nullptr;
  }
  /// Whether an entry could keep the module, its expression not being understood here.
  [[nodiscard]] bool unclear(const std::string& module) const {
    return std::any_of(list_->begin(), list_->end(), [&](const std::string& entry) {
      return !io::skips(entry, module).has_value();
    });
  }

  /// Whether an entry of the list names nothing in the file.
  [[nodiscard]] bool has_strangers() const {
    return std::any_of(list_->begin(), list_->end(), [&](const std::string& entry) {
      bool used = false;
      for_each_weight([&](const std::string& layer, const io::TensorInfo&, bool) {
        used = used || io::skips(entry, layer).value_or(false);
      });
      return !used;
    });
  }

  void check_quantized(const std::string& layer, io::WeightKind kind) {
    if (list_) {
      if (const std::string* entry = entry_for(layer)) {
        return add(io::Severity::error, "llm_int8_skip_modules (" + io::in_quotes(*entry) +
                                            ") keeps " + io::in_quotes(layer) +
                                            " in float, but it is stored quantized");
      }
    } else if (kind == io::WeightKind::head) {
      return add_judged(io::in_quotes(layer) +
                        " is stored quantized, but transformers keeps the output head in float "
                        "where llm_int8_skip_modules is not a list");
    }
    if (kind == io::WeightKind::float_linear || kind == io::WeightKind::other) {
      add_judged(io::in_quotes(layer) +
                 " is stored quantized, but transformers makes no quantized layer of it (" +
                 (kind == io::WeightKind::other ? "an embedding"
                                                : "a router, an expert, a layer "
                                                  "that it keeps in float") +
                 ")");
    }
  }

  void check_float(const std::string& layer, io::WeightKind kind) {
    if (kind == io::WeightKind::other || kind == io::WeightKind::float_linear) return;
    if (!list_) {
      if (kind == io::WeightKind::head) return;
    } else if (entry_for(layer) != nullptr || unclear(layer)) {
      if (kind == io::WeightKind::linear && rules_.known() && rules_.renamed_inside()) {
        add(io::Severity::warning,
            io::in_quotes(layer) +
                " is stored in float and kept by llm_int8_skip_modules, but the loaded model has "
                "other names for the layers of model_type " +
                io::in_quotes(hints_.model_type));
      }
      return;
    }
    const std::string text =
        io::in_quotes(layer) +
        " is stored in float, but transformers makes a quantized layer of it: " +
        (list_ ? "no entry of llm_int8_skip_modules keeps it"
               : "llm_int8_skip_modules is not a list that keeps it");
    // The list has the names of the loaded model, which may be others.
    if (list_ && rules_.known() && rules_.renamed() && has_strangers()) {
      return add(io::Severity::warning,
                 text + " (unless the loaded model has another name for it)");
    }
    add_judged(text);
  }

  /// A head that is tied is not in the file, and still a layer of the loaded model.
  void check_tied_heads() {
    const std::string& name = hints_.model_class;
    const bool has_head = name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel") ||
                          name.ends_with("ForMaskedLM") || name.ends_with("ForPreTraining") ||
                          name.ends_with("ForConditionalGeneration");
    if (!has_head || !rules_.known() || rules_.renamed()) return;
    const std::vector<std::string> heads = rules_.heads();
    const bool stored = std::any_of(heads.begin(), heads.end(), [&](const std::string& head) {
      return find_(head + ".weight").info != nullptr;
    });
    const bool kept = std::any_of(heads.begin(), heads.end(), [&](const std::string& head) {
      return entry_for(head) != nullptr || unclear(head);
    });
    // Where the list has an entry that is the tied head's under another name, all is well too.
    bool tied_kept = false;
    for (const io::TensorFile& file : tensors_.files()) {
      for (const io::TensorInfo& info : file.tensors()) {
        const auto head = rules_.tied_head(info, find_);
        tied_kept = tied_kept || (head && (entry_for(*head) != nullptr || unclear(*head)));
      }
    }
    if (stored || kept || tied_kept) return;
    add(io::Severity::error, "the output head (" + io::in_quotes(heads.front()) +
                                 ") is tied and not in the file, and no entry of "
                                 "llm_int8_skip_modules keeps it in float: transformers would make "
                                 "a quantized layer of it");
  }

  const std::string& file_;
  const io::ModelHints& hints_;
  const TensorSet& tensors_;
  io::FindTensor find_;
  io::LinearRules rules_;
  io::Findings& findings_;
  std::optional<std::vector<std::string>> list_;  ///< nothing: transformers finds the head itself
};

}  // namespace

void verify_modules(const std::string& file, const io::ModelHints& hints,
                    const nlohmann::json& section, const TensorSet& tensors,
                    io::Findings& findings) {
  ModuleCheck(file, hints, section, tensors, findings).run();
}

}  // namespace kvant::look
