#pragma once

/// @file
/// Ranks: the processes that hold a model together, each a share of it, and what they say to each
/// other. kvant::mpi has them over MPI; layers (parallel_linear.hpp) and models know this interface
/// alone.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/kernels/memory.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// Neighbouring rows, heads, columns: [begin, end).
struct Share {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] constexpr std::int64_t size() const noexcept { return end - begin; }
  friend constexpr bool operator==(const Share&, const Share&) = default;
};

/// What a rank has sent.
struct Traffic {
  std::int64_t exchanges = 0;  ///< calls in which ranks waited for each other
  /// To all other ranks together: what a rank gives to n others counts n times, whatever way the
  /// network takes.
  std::int64_t bytes_sent = 0;
  /// Spent in these calls, waiting for slower ranks included; what devices exchange by themselves
  /// takes its time elsewhere.
  double seconds = 0;
};

/// An exchange under way, while its rank computes.
class KVANT_API Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange();
  /// Gives the transport a moment of this thread to go on. @throws Error as Ranks
  virtual void advance() = 0;
  /// Returns when it is done. @throws Error as Ranks
  virtual void finish() = 0;
};

/// The ranks of a job. Every call is made by all of them, in the same order, each from one thread;
/// it returns when the rank has what it asked for. A rank that fails instead must tell the others
/// (mpi::Communicator::fail), or they wait.
/// @throws Error device_failed where the connection does, cancelled, and what another rank failed
///         with; shape_mismatch where sizes differ from what was agreed on
class KVANT_API Ranks {
 public:
  Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  virtual ~Ranks();

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;

  /// Every rank's bytes, one after the other.
  /// @param sizes of all ranks' parts, the same everywhere; @param all room for their sum
  void all_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                  std::byte* all);
  /// The same in the memory of the ranks' devices: what the queue has put into `mine` when it comes
  /// there is in `all` for what it does next. By way of the hosts, which waits for the queue; where
  /// devices are connected it does not.
  void all_gather(const Memory& memory, void* queue, std::span<const std::byte> mine,
                  std::span<const std::int64_t> sizes, std::byte* all);
  /// Context::wait for work in which other ranks take part: where one fails meanwhile, so does
  /// this.
  virtual void wait(const Memory& memory, void* queue);
  /// What ranks' devices hold goes from one to the other by itself (mpi::Communicator::
  /// connect_devices). The same on all ranks.
  [[nodiscard]] virtual bool devices_connected() const noexcept { return false; }
  /// Every rank's bytes, one after the other, on rank 0 alone.
  /// @param sizes as in all_gather; @param all on rank 0 room for their sum
  void gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes, std::byte* all);
  /// The largest of each element; NaN where one is NaN. Elements are not negative.
  void all_max(std::span<float> values);
  /// The bits that any rank has set.
  void all_or(std::span<std::uint32_t> values);
  /// Rank 0's bytes for all.
  void broadcast(std::span<std::byte> bytes);
  /// Returns when all have called it.
  void wait_for_all();

  /// Matrices whose columns are split: each rank's [M, widths[rank]] side by side in `all`.
  /// @param widths of all ranks
  void gather_columns(MatrixView<const float> mine, std::span<const std::int64_t> widths,
                      MatrixView<float> all);
  /// The same while `mine` is being made: make_rows(rows) makes some of its rows, which travel
  /// while the next ones are made; it is called for all in ascending order, at most piece_rows at
  /// once. Every rank gives the same piece_rows.
  void gather_columns(MatrixView<const float> mine, std::span<const std::int64_t> widths,
                      MatrixView<float> all, std::int64_t piece_rows,
                      const std::function<void(Share rows)>& make_rows);
  /// Compares something that must be the same everywhere before work begins.
  /// @param what it is called, for the message; @param value in words, of which 200 bytes are
  ///        shown; @param bytes compared too, and not shown
  /// @throws Error invalid_file on every rank, with what the first two different ones have
  void agree(std::string_view what, std::string_view value, std::string_view bytes = {});

  [[nodiscard]] const Traffic& traffic() const noexcept { return traffic_; }

 protected:
  virtual void do_all_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                             std::byte* all) = 0;
  /// Begins a gathering; `mine`, `all` and what `sizes` are in stay where they are until it is
  /// done. Null: it is done already, as by default.
  virtual std::unique_ptr<Exchange> do_start_all_gather(std::span<const std::byte> mine,
                                                        std::span<const std::int64_t> sizes,
                                                        std::byte* all);
  /// By way of the hosts.
  virtual void do_device_all_gather(const Memory& memory, void* queue,
                                    std::span<const std::byte> mine,
                                    std::span<const std::int64_t> sizes, std::byte* all);
  virtual void do_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                         std::byte* all) = 0;
  /// The largest of each, as signed integers.
  virtual void do_all_max(std::span<std::int32_t> values) = 0;
  virtual void do_all_or(std::span<std::uint32_t> values) = 0;
  virtual void do_broadcast(std::span<std::byte> bytes) = 0;

 private:
  template <class Call>
  void timed(Call&& call);
  template <class Call>
  void counted(std::int64_t bytes, Call&& call);
  void check_sizes(std::span<const std::byte> mine, std::span<const std::int64_t> sizes) const;

  Traffic traffic_;
  std::vector<float> parts_;       ///< of gather_columns, kept
  std::vector<std::byte> hosted_;  ///< of do_device_all_gather, kept
};

/// A rank's share of `count` things, as even as whole units allow. A unit is 128 (a square of
/// fp8-block) where no rank then has an eighth more than another, else 64 (the block in which
/// products of floats are computed, whose bits depend on it), else, with fewer than 64 for each
/// rank, one. A share may be empty.
[[nodiscard]] KVANT_API Share share_of(std::int64_t count, int rank, int ranks);
/// The same in units of `unit`.
[[nodiscard]] KVANT_API Share share_of(std::int64_t count, int rank, int ranks, std::int64_t unit);
/// The sizes of all ranks' shares; unit 0: chosen as above.
[[nodiscard]] KVANT_API std::vector<std::int64_t> share_sizes(std::int64_t count, int ranks,
                                                              std::int64_t unit = 0);

}  // namespace kvant
