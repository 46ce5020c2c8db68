#pragma once

// Ranks share the tensors of a conversion: each makes some of them, and rank 0 writes all, so that
// only its machine needs to see the result.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "io/convert/tensor_jobs.hpp"
#include "kvant/ranks.hpp"

namespace kvant::io {

class RankExchange {
 public:
  explicit RankExchange(Ranks& ranks) : ranks_(ranks) {}

  /// Leaves this rank's jobs: whole tensors, whose parts may need each other, as even by bytes as
  /// they can be.
  void keep_own(std::vector<std::unique_ptr<TensorJob>>& jobs) const;
  [[nodiscard]] bool writes() const noexcept { return ranks_.rank() == 0; }

  /// Part of a result, to be sent with the next exchange; from any thread.
  void add(std::string_view tensor, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Sends what was added to rank 0, which writes it. All ranks call it.
  /// @param done this rank has nothing more
  /// @return all ranks are done
  bool exchange(bool done, CheckpointWriter& out);

 private:
  Ranks& ranks_;
  std::mutex mutex_;
  std::vector<std::byte> waiting_;  ///< records: lengths and offset, name, bytes
};

}  // namespace kvant::io
