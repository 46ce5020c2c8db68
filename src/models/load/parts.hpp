#pragma once

// PartLoader: the parts of a model as they are stored, in float: norms, tables, linear layers; and
// what all of them are called.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/architecture.hpp"
#include "kvant/models/model.hpp"
#include "models/load/block_layout.hpp"
#include "models/load/layer_maker.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

class PartLoader {
 public:
  /// @param split the rank's share that is loaded; null: everything
  PartLoader(Context& context, const Config& config, const LoadOptions& options,
             const WeightSource& source, const Split* split = nullptr);

  [[nodiscard]] const std::vector<Stack>& stacks() const noexcept { return stacks_; }
  /// Blocks in all stacks.
  [[nodiscard]] std::int64_t block_count() const;
  /// Of a part behind the prefix.
  [[nodiscard]] LayerName name_of(const std::string& part) const;

  /// A block's linear layers, with their places in `block`.
  [[nodiscard]] std::vector<LinearSpec> linears(const Stack& stack, Block& block) const;
  /// The layer before the head, where the file has it.
  [[nodiscard]] std::optional<LinearSpec> head_linear(Model& model) const;

  /// Shape of a linear layer's weight in the file.
  [[nodiscard]] std::vector<std::uint64_t> shape(const std::string& tensor,
                                                 const LinearSpec& linear) const;
  [[nodiscard]] WeightMatrix weights(const LinearSpec& linear, const LayerName& name) const;
  [[nodiscard]] FloatParameters linear(const LinearSpec& linear, const LayerName& name) const;
  /// A layer in float that no scheme quantizes; no name: there is none.
  [[nodiscard]] std::unique_ptr<LinearLayer> float_projection(const std::string& part,
                                                              std::int64_t outputs,
                                                              std::int64_t inputs) const;
  [[nodiscard]] std::vector<float> bias(const LinearSpec& linear, const LayerName& name) const;
  /// By its name in the file; of old files "gamma" and "beta". No name: there is no such norm.
  [[nodiscard]] Norm norm(const std::string& name, std::int64_t size) const;
  [[nodiscard]] Norm final_norm(const Stack& stack) const;
  /// As Pass has it; empty: the family has no relative positions.
  /// @param both_ways as relative_bucket()
  [[nodiscard]] std::vector<float> distance_bias(const Stack& stack, bool both_ways) const;
  /// A block with its norms.
  [[nodiscard]] Block norms(const Stack& stack, std::int64_t n) const;

  /// Tables, and the norm behind them; no projections.
  void tables(Model& model) const;
  /// The same with the rows that these ids need: the tables may be larger than any block.
  void table_rows(Model& model, const std::vector<TokenId>& ids) const;
  /// What the first block reads of a text, in float, with no more of the tables than it needs.
  [[nodiscard]] std::vector<float> embed_window(const std::vector<TokenId>& ids) const;
  /// Bias and norm of what stands before the head.
  void head_parts(Model& model) const;

  /// The table of tokens: a tied pair may be saved under either name.
  [[nodiscard]] std::string token_table() const;

 private:
  [[nodiscard]] std::string head_tensor() const { return std::string(names_.head) + ".weight"; }
  [[nodiscard]] bool has_own_head() const;
  [[nodiscard]] std::string position_table() const;
  [[nodiscard]] std::int64_t positions() const;
  [[nodiscard]] bool bf16() const;
  [[nodiscard]] std::optional<DType> held_dtype() const;
  /// Codes always lie [outputs, inputs].
  [[nodiscard]] bool transposed(const std::string& tensor) const;
  [[nodiscard]] std::vector<float> vector(const std::string& name, std::int64_t size,
                                          const std::vector<Share>& parts = {}) const;
  /// Rows of embeddings and head; empty: all.
  [[nodiscard]] std::vector<Share> vocabulary() const;
  void around(Model& model) const;
  /// @param sqnr_db  what quantizing it left, where that is done here; null: nobody asks
  [[nodiscard]] TokenTable token_table_of(const std::string& tensor,
                                          std::optional<double>* sqnr_db) const;

  Context& context_;
  const Config& config_;
  const LoadOptions& options_;
  const WeightSource& source_;
  const Split* split_;
  const io::Architecture& names_;
  std::string prefix_;  ///< in the file
  std::vector<Stack> stacks_;
};

}  // namespace kvant::models
