#pragma once

// Which tensor of a GGUF file holds which tensors of a folder in Hugging Face form, and in which
// order of rows. Readers and writers use the same list.

#include <cstdint>
#include <string>
#include <vector>

#include "kvant/models/config.hpp"
#include "models/gguf/architectures.hpp"

namespace kvant::models {

/// Elements that are converted at a time.
inline constexpr std::int64_t kSliceElements = 2 << 20;

/// The order of rows (of a vector: of elements).
struct RowOrder {
  enum class Kind : std::uint8_t {
    same,
    pairs,    ///< GGUF has the two halves of a head one element from each in turn
    by_kind,  ///< GGUF has all queries, all keys, all values; the folder each head's together
  };
  Kind kind = Kind::same;
  std::int64_t head_dim = 0;
  std::int64_t group = 0;     ///< by_kind: query heads that share a key head
  std::int64_t kv_heads = 0;  ///< by_kind

  /// The folder's row that is GGUF's row `row`.
  [[nodiscard]] std::int64_t in_folder(std::int64_t row) const noexcept;
  /// And back.
  [[nodiscard]] std::int64_t in_gguf(std::int64_t row) const noexcept;
};

/// A tensor of a GGUF file.
struct MappedTensor {
  enum class Role : std::uint8_t {
    vector,
    linear,
    router,
    tokens,
    positions,  ///< a table of positions, of distances or of token types: stays in floats
    head,
  };
  std::string name;                  ///< "blk.0.attn_q.weight"
  std::vector<std::string> sources;  ///< with the prefix; several: experts, one after the other
  Role role = Role::linear;
  std::int64_t rows = 0;  ///< of one source; of a vector its size
  std::int64_t cols = 0;  ///< of a vector 1
  RowOrder order = {};
  std::int64_t first_row = 0;  ///< the folder's row that is GGUF's first (RoBERTa's positions)
  float offset = 0.0f;         ///< what GGUF's values are larger by (Gemma's norms)
  bool transposed = false;     ///< the folder has [cols, rows]
  bool optional = false;       ///< models may lack it: T5's own head

  [[nodiscard]] bool is_vector() const noexcept { return role == Role::vector; }
};

/// All tensors of a model, in the order in which llama.cpp's converter writes them.
[[nodiscard]] std::vector<MappedTensor> map_tensors(const Config& config,
                                                    const GgufArchitecture& architecture);

}  // namespace kvant::models
