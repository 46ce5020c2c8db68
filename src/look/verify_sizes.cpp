// The sizes in config.json against the shapes of the tensors, for families of the table.

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

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

class SizeCheck {
 public:
  SizeCheck(const std::string& file, const io::Architecture& family, const nlohmann::json& config,
            const TensorSet& tensors, io::Findings& findings)
      : file_(file), family_(family), config_(config), tensors_(tensors), findings_(findings) {}

  void run() {
    if (const auto hidden = size_of({"hidden_size", "n_embd", "d_model"})) {
      check_table(*hidden);
      check_heads(*hidden);
    }
    if (const auto inner = size_of({"intermediate_size", "n_inner", "ffn_dim", "d_ff"})) {
      const std::string_view up = family_.linears.up;
      const io::TensorInfo* tensor = matrix(up);
      if (tensor == nullptr) return;
      const std::uint64_t got = rows(*tensor);
      const bool fused = up.find("gate_up") != std::string_view::npos;
      const std::uint64_t wanted = fused ? 2 * inner->value : inner->value;
      if (got != wanted)
        differs(*inner, *tensor, got, fused ? "twice that many outputs" : "outputs");
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

  [[nodiscard]] const io::TensorInfo* float_matrix(const std::string& name) const {
    const io::TensorInfo* info = tensors_.find(name).info;
    if (info == nullptr || info->shape.size() != 2) return nullptr;
    const bool plain = info->dtype == DType::float32 || info->dtype == DType::float16 ||
                       info->dtype == DType::bfloat16 || info->dtype == DType::int8;
    return plain ? info : nullptr;  // codes of other forms have shapes of their own
  }
  /// The weight of a layer of the first block.
  [[nodiscard]] const io::TensorInfo* matrix(std::string_view linear) const {
    if (linear.empty()) return nullptr;
    for (const bool with_prefix : {true, false}) {
      const std::string name = family_.linear_name(linear, 0, with_prefix) + ".weight";
      if (const io::TensorInfo* info = float_matrix(name)) return info;
    }
    return nullptr;
  }
  [[nodiscard]] std::uint64_t rows(const io::TensorInfo& info) const {
    // Codes lie [outputs, inputs] whatever the family does with floats.
    return info.shape[family_.transposed && info.dtype != DType::int8 ? 1 : 0];
  }

  void differs(const Size& size, const io::TensorInfo& tensor, std::uint64_t got,
               const char* what) {
    findings_.push_back({io::Severity::error, "config",
                         file_ + ": " + size.key + " is " + std::to_string(size.value) +
                             ", but tensor " + io::in_quotes(tensor.name) + " has " +
                             std::to_string(got) + " " + what});
  }

  void check_table(const Size& hidden) {
    if (family_.tokens.empty()) return;
    const io::TensorInfo* table = nullptr;
    for (const std::string_view prefix : {family_.prefix, std::string_view()}) {
      if (table != nullptr) break;
      table = float_matrix(std::string(prefix) + std::string(family_.tokens) + ".weight");
    }
    if (table == nullptr) return;
    const auto vocabulary = size_of({"vocab_size"});
    if (vocabulary && table->shape[0] != vocabulary->value) {
      differs(*vocabulary, *table, table->shape[0], "rows");
    }
    const Size width = size_of({"word_embed_proj_dim"}).value_or(hidden);  // OPT's
    if (table->shape[1] != width.value) differs(width, *table, table->shape[1], "columns");
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
    const auto check = [&](std::string_view linear, const Size& size) {
      const io::TensorInfo* tensor = matrix(linear);
      if (tensor == nullptr || rows(*tensor) == size.value * width) return;
      differs(size, *tensor, rows(*tensor), ("outputs, heads of " + std::to_string(width)).c_str());
    };
    check(family_.linears.q, *heads);
    const auto kv_heads = size_of({"num_key_value_heads"});
    check(family_.linears.k, kv_heads.value_or(*heads));
  }

  const std::string& file_;
  const io::Architecture& family_;
  const nlohmann::json& config_;
  const TensorSet& tensors_;
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
  if (family != nullptr) SizeCheck(file, *family, config, tensors, findings).run();
}

}  // namespace kvant::look
