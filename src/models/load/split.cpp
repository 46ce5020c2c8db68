#include "kvant/models/split.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

[[noreturn]] void refuse(const Config& config, int ranks, const std::string& why) {
  throw Error(ErrorCode::unsupported, std::to_string(ranks) + " ranks cannot share this " +
                                          std::string(config.model_type) + ": " + why);
}

/// "1, 2, 4": numbers of ranks that would do.
std::string possible_ranks(const Config& config) {
  std::string text;
  for (std::int64_t n = 1; n <= config.n_head; ++n) {
    if (config.n_head % n != 0) continue;
    if (config.n_kv_head % n != 0 && n % config.n_kv_head != 0) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(n);
  }
  return text;
}

}  // namespace

Split split_of(const Config& config, Ranks& ranks) {
  const std::int64_t count = ranks.size();
  const std::int64_t rank = ranks.rank();
  const std::int64_t kv = config.n_kv_head;
  if (config.n_head % count != 0 || (kv % count != 0 && count % kv != 0)) {
    refuse(config, ranks.size(),
           "it has " + std::to_string(config.n_head) + " heads of queries and " +
               std::to_string(kv) + " of keys, which can be split over " + possible_ranks(config) +
               " ranks");
  }
  if (count > 1 && !config.qk_norm_per_head &&
      !(config.names.q_norm.empty() && config.encoder_names.q_norm.empty())) {
    refuse(config, ranks.size(), "its queries and keys are normalized over all heads at once");
  }
  const auto share = [&](std::int64_t of, const char* what) {
    if (of < count) {
      refuse(config, ranks.size(), "it has only " + std::to_string(of) + " " + what);
    }
    return share_of(of, ranks.rank(), ranks.size());
  };
  Split split;
  split.ranks = &ranks;
  const std::int64_t heads = config.n_head / count;
  split.heads = {rank * heads, (rank + 1) * heads};
  const std::int64_t kv_heads = std::max<std::int64_t>(1, kv / count);
  const std::int64_t first_kv = rank * kv / count;
  split.kv_heads = {first_kv, first_kv + kv_heads};
  split.inner = share(config.n_inner, "columns inside its MLP");
  split.width = share(config.n_embd, "columns in its residual stream");
  // The head is multiplied in float, whatever the scheme: in the blocks of one process.
  split.vocabulary = share_of(config.vocab_size, ranks.rank(), ranks.size(), kVocabularyUnit);
  split.blocks = config;
  split.blocks.n_head = heads;
  split.blocks.n_kv_head = kv_heads;
  split.blocks.first_head = split.heads.begin;
  split.blocks.all_heads = config.n_head;
  split.blocks.n_inner = split.inner.size();
  return split;
}

}  // namespace kvant::models
