#include "models/gguf/sources.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/architecture.hpp"
#include "models/load/block_layout.hpp"
#include "models/load/tensors.hpp"

namespace kvant::models {
namespace {

class SourceFinder {
 public:
  SourceFinder(const WeightSource& source, const Config& config, const std::string& where)
      : source_(source),
        config_(config),
        where_(where),
        names_(*io::find_architecture(config.model_type)),
        prefix_(names_.prefix),
        table_(std::string(names_.tokens) + ".weight"),
        head_(std::string(names_.head) + ".weight"),
        bare_(source.contains(table_)) {}

  void run(std::vector<MappedTensor>& tensors, std::vector<io::Warning>& warnings) {
    require_no_more_blocks();
    check_heads(tensors);
    for (MappedTensor& tensor : tensors) find(tensor);
    warn_of_others(warnings);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::unsupported, where_ + ": GGUF's architecture for " +
                                            std::string(config_.model_type) +
                                            " cannot say: " + what);
  }

  void require_no_more_blocks() const {
    for (const Stack& stack : stacks_of(config_, names_)) {
      const io::BlockLinears& linears = *stack.linears;
      for (const std::string_view linear :
           {linears.qkv, linears.q, linears.attention_output, linears.up}) {
        if (linear.empty()) continue;
        const std::string beyond = stack.name(stack.layers, linear) + ".weight";
        require_no_block_beyond(source_, beyond, stack.layers);
        require_no_block_beyond(source_, prefix_ + beyond, stack.layers);
      }
    }
  }

  /// What the tensors alone say of a model's head. T5's GGUF files say with a head of its own that
  /// it reads rows as they are, without one that the table reads them scaled.
  void check_heads(std::vector<MappedTensor>& tensors) const {
    const std::string dense(config_.names.head_dense);
    if (!dense.empty() && source_.contains(dense + ".weight")) {
      refuse("the head that fills in masks (" + dense + "); a model saved without it (as " +
             "transformers saves a BertModel or a RobertaModel) can be said");
    }
    if (!config_.head_may_be_stored) return;
    const bool scaled = config_.logit_divisor != 1.0f;
    bool own = source_.contains(head_);
    if (own && scaled) {
      if (!is_table(head_)) refuse("a head of its own that reads scaled rows (" + head_ + ")");
      own = false;
    }
    if (own) return;
    const auto head = std::find_if(tensors.begin(), tensors.end(),
                                   [](const MappedTensor& each) { return each.optional; });
    if (scaled) {
      tensors.erase(head);
    } else {
      head->sources = {prefix_ + table_};  // the table once more
    }
  }

  /// Whether a tensor is the table of tokens once more.
  [[nodiscard]] bool is_table(const std::string& name) const {
    const std::string table = (bare_ ? "" : prefix_) + table_;
    const SourceTensor one = source_.describe(name);
    const SourceTensor other = source_.describe(table);
    if (one.shape != other.shape || one.dtype != other.dtype || one.shape.size() != 2) return false;
    const auto row_bytes = static_cast<std::size_t>(
        one.shape[1] * static_cast<std::uint64_t>(describe(one.dtype).bits) / 8);
    std::vector<std::byte> a(row_bytes);
    std::vector<std::byte> b(row_bytes);
    for (std::int64_t row = 0; row < static_cast<std::int64_t>(one.shape[0]); ++row) {
      source_.read(name, row, 1, a.data());
      source_.read(table, row, 1, b.data());
      if (a != b) return false;
    }
    return true;
  }

  void find(MappedTensor& tensor) {
    for (std::string& name : tensor.sources) {
      if (bare_ && name.starts_with(prefix_)) name.erase(0, prefix_.size());
      tensor.transposed = tensor.transposed && source_.is_transposed(name);
      if (tensor.role == MappedTensor::Role::tokens && !source_.contains(name) &&
          config_.tie_word_embeddings) {
        name = head_;
      }
      const auto rows = static_cast<std::uint64_t>(tensor.first_row + tensor.rows);
      const auto cols = static_cast<std::uint64_t>(tensor.cols);
      std::vector<std::uint64_t> shape = {rows, cols};
      if (tensor.is_vector()) shape = {rows};
      if (tensor.transposed) shape = {cols, rows};
      (void)require_tensor(source_, name, shape);
      used_.insert(name);
    }
  }

  /// Tensors of a float checkpoint that a GGUF file has no place for.
  void warn_of_others(std::vector<io::Warning>& warnings) const {
    const io::Checkpoint* checkpoint = source_.checkpoint();
    if (checkpoint == nullptr || config_.int8 || config_.stored_quantized) return;
    std::vector<std::string> left;
    for (const io::TensorInfo* info : checkpoint->tensors()) {
      const std::string& name = info->name;
      const bool computed = name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attn.bias") ||
                            name.ends_with(".masked_bias") || name.ends_with(".attention.bias");
      // T5's two stacks may each have the shared table once more.
      const bool shared =
          config_.kind == ModelKind::encoder_decoder && name.ends_with(".embed_tokens.weight");
      if (!computed && !shared && !used_.contains(name) && name != head_) left.push_back(name);
    }
    if (left.empty()) return;
    warnings.push_back({io::WarningKind::unmatched_tensor,
                        std::to_string(left.size()) +
                            " tensors are no part of the model and are left out: " +
                            io::in_quotes(left.front()) + (left.size() > 1 ? ", ..." : "")});
  }

  const WeightSource& source_;
  const Config& config_;
  const std::string& where_;
  const io::Architecture& names_;
  std::string prefix_;
  std::string table_;
  std::string head_;
  bool bare_;
  std::set<std::string> used_;
};

}  // namespace

void find_sources(const WeightSource& source, const Config& config, const std::string& where,
                  std::vector<MappedTensor>& tensors, std::vector<io::Warning>& warnings) {
  SourceFinder(source, config, where).run(tensors, warnings);
}

}  // namespace kvant::models
