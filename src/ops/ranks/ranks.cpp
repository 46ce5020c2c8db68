#include "kvant/ranks.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "ops/support/device_data.hpp"

namespace kvant {
namespace {

/// What agree() compares. Its form must not change: ranks of different versions meet here.
struct Statement {
  std::uint64_t checksum = 0;
  std::array<char, 248> text = {};
};
static_assert(sizeof(Statement) == 256);

/// FNV-1a, which is the same on every machine.
constexpr std::uint64_t kChecksumOfNothing = 14695981039346656037ull;
std::uint64_t checksum_of(std::string_view text, std::uint64_t hash) noexcept {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

constexpr std::int64_t kFloatBlock = 64;
constexpr std::int64_t kSquare = 128;

std::int64_t unit_of(std::int64_t count, std::int64_t ranks) noexcept {
  if (count < kFloatBlock * ranks) return 1;
  constexpr std::int64_t kEvenEnough = 8;  // units of a share
  const std::int64_t squares = count / kSquare;
  const bool even = count % kSquare == 0 && squares % ranks == 0;
  return even || squares >= kEvenEnough * ranks ? kSquare : kFloatBlock;
}

}  // namespace

Exchange::~Exchange() = default;
Ranks::~Ranks() = default;

template <class Call>
void Ranks::timed(Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  traffic_.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Call>
void Ranks::counted(std::int64_t bytes, Call&& call) {
  if (size() == 1) return;
  timed(call);
  ++traffic_.exchanges;
  traffic_.bytes_sent += bytes;
}

void Ranks::check_sizes(std::span<const std::byte> mine,
                        std::span<const std::int64_t> sizes) const {
  const auto own = static_cast<std::size_t>(rank());
  if (sizes.size() == static_cast<std::size_t>(size()) &&
      sizes[own] == static_cast<std::int64_t>(mine.size())) {
    return;
  }
  throw Error(ErrorCode::shape_mismatch, "Ranks: rank " + std::to_string(rank()) + " has " +
                                             std::to_string(mine.size()) +
                                             " bytes to give, other than was said");
}

void Ranks::all_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                       std::byte* all) {
  check_sizes(mine, sizes);
  if (size() == 1) std::copy(mine.begin(), mine.end(), all);
  counted(static_cast<std::int64_t>(mine.size()) * (size() - 1),
          [&] { do_all_gather(mine, sizes, all); });
}

void Ranks::all_gather(const Memory& memory, void* queue, std::span<const std::byte> mine,
                       std::span<const std::int64_t> sizes, std::byte* all) {
  check_sizes(mine, sizes);
  if (size() == 1) detail::copy_within_or_fail(memory, all, mine.data(), mine.size(), queue);
  counted(std::ssize(mine) * (size() - 1),
          [&] { do_device_all_gather(memory, queue, mine, sizes, all); });
}

void Ranks::do_device_all_gather(const Memory& memory, void* queue, std::span<const std::byte> mine,
                                 std::span<const std::int64_t> sizes, std::byte* all) {
  const auto sum =
      static_cast<std::size_t>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  hosted_.resize(mine.size() + sum);
  const std::span<std::byte> own(hosted_.data(), mine.size());
  std::byte* const gathered = hosted_.data() + own.size();
  detail::copy_or_fail(memory, own.data(), mine.data(), own.size(), CopyKind::to_host, queue);
  do_all_gather(own, sizes, gathered);
  detail::copy_or_fail(memory, all, gathered, sum, CopyKind::to_device, queue);
  detail::wait_or_fail(memory, queue);  // the next call takes the same memory of the host
}

void Ranks::wait(const Memory& memory, void* queue) {
  detail::wait_or_fail(memory, queue);
}

std::unique_ptr<Exchange> Ranks::do_start_all_gather(std::span<const std::byte> mine,
                                                     std::span<const std::int64_t> sizes,
                                                     std::byte* all) {
  do_all_gather(mine, sizes, all);
  return nullptr;
}

void Ranks::gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                   std::byte* all) {
  check_sizes(mine, sizes);
  if (size() == 1) std::copy(mine.begin(), mine.end(), all);
  counted(rank() == 0 ? 0 : static_cast<std::int64_t>(mine.size()),
          [&] { do_gather(mine, sizes, all); });
}

void Ranks::all_max(std::span<float> values) {
  // Floats that are not negative ascend as their bits do, NaN above all.
  counted(static_cast<std::int64_t>(values.size_bytes()) * (size() - 1), [&] {
    std::vector<std::int32_t> bits(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      bits[i] = std::isnan(values[i]) ? 0x7FC00000 : std::bit_cast<std::int32_t>(values[i]);
    }
    do_all_max(bits);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::bit_cast<float>(bits[i]);
  });
}

void Ranks::all_or(std::span<std::uint32_t> values) {
  counted(static_cast<std::int64_t>(values.size_bytes()) * (size() - 1),
          [&] { do_all_or(values); });
}

void Ranks::broadcast(std::span<std::byte> bytes) {
  counted(rank() == 0 ? static_cast<std::int64_t>(bytes.size()) * (size() - 1) : 0,
          [&] { do_broadcast(bytes); });
}

void Ranks::wait_for_all() {
  std::uint32_t nothing = 0;
  all_or({&nothing, 1});
}

void Ranks::gather_columns(MatrixView<const float> mine, std::span<const std::int64_t> widths,
                           MatrixView<float> all) {
  gather_columns(mine, widths, all, std::max<std::int64_t>(all.rows(), 1), [](Share) {});
}

void Ranks::gather_columns(MatrixView<const float> mine, std::span<const std::int64_t> widths,
                           MatrixView<float> all, std::int64_t piece_rows,
                           const std::function<void(Share rows)>& make_rows) {
  const std::int64_t rows = all.rows();
  const std::int64_t columns = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
  if (widths.size() != static_cast<std::size_t>(size()) || mine.rows() != rows ||
      mine.cols() != widths[static_cast<std::size_t>(rank())] || all.cols() != columns) {
    throw Error(ErrorCode::shape_mismatch,
                "Ranks::gather_columns: rank " + std::to_string(rank()) + " has [" +
                    std::to_string(mine.rows()) + ", " + std::to_string(mine.cols()) + "] for [" +
                    std::to_string(rows) + ", " + std::to_string(all.cols()) + "]");
  }
  // Own rows one after the other, then all ranks' parts of each piece; a single row needs no
  // rearranging. The memory is kept: where a rank fails, the transport may still write there.
  const bool packs = rows > 1 && mine.stride() != mine.cols();
  const bool spreads = rows > 1;
  const std::int64_t own = packs ? rows * mine.cols() : 0;
  const auto room = static_cast<std::size_t>(own + (spreads ? rows * columns : 0));
  if (parts_.size() < room) parts_.resize(room);
  float* const gathered = spreads ? parts_.data() + own : all.data();

  struct Piece {
    Share rows;
    std::vector<std::int64_t> bytes;  ///< of each rank
    std::unique_ptr<Exchange> exchange;
  };
  std::vector<Piece> pieces;
  pieces.reserve(static_cast<std::size_t>((rows + piece_rows - 1) / piece_rows));
  for (std::int64_t first = 0; first < rows; first += piece_rows) {
    Piece& piece = pieces.emplace_back();
    piece.rows = {first, std::min(rows, first + piece_rows)};
    make_rows(piece.rows);
    const float* from = mine.row_data(first);
    if (packs) {
      float* const packed = parts_.data() + first * mine.cols();
      for (std::int64_t r = 0; r < piece.rows.size(); ++r) {
        std::copy_n(mine.row_data(first + r), mine.cols(), packed + r * mine.cols());
      }
      from = packed;
    }
    for (const std::int64_t width : widths) {
      piece.bytes.push_back(piece.rows.size() * width * std::int64_t{sizeof(float)});
    }
    const std::span<const std::byte> bytes =
        std::as_bytes(std::span(from, static_cast<std::size_t>(piece.rows.size() * mine.cols())));
    auto* const to = reinterpret_cast<std::byte*>(gathered + first * columns);
    if (size() == 1) std::copy(bytes.begin(), bytes.end(), to);
    counted(std::ssize(bytes) * (size() - 1), [&] {
      piece.exchange = do_start_all_gather(bytes, piece.bytes, to);
      for (const Piece& each : pieces) {
        if (each.exchange != nullptr) each.exchange->advance();
      }
    });
  }
  for (const Piece& piece : pieces) {
    if (piece.exchange != nullptr) timed([&] { piece.exchange->finish(); });
    if (!spreads) continue;
    const float* part = gathered + piece.rows.begin * columns;
    std::int64_t column = 0;
    for (const std::int64_t width : widths) {
      for (std::int64_t r = piece.rows.begin; r < piece.rows.end; ++r, part += width) {
        std::copy_n(part, width, all.row_data(r) + column);
      }
      column += width;
    }
  }
}

void Ranks::agree(std::string_view what, std::string_view value, std::string_view bytes) {
  const auto count = static_cast<std::size_t>(size());
  Statement mine;
  mine.checksum = checksum_of(bytes, checksum_of(value, kChecksumOfNothing));
  const std::size_t shown = std::min<std::size_t>(value.size(), 200);
  std::copy_n(value.begin(), shown, mine.text.begin());
  std::vector<Statement> all(count);
  const std::vector<std::int64_t> sizes(count, sizeof(Statement));
  all_gather(std::as_bytes(std::span(&mine, 1)), sizes, reinterpret_cast<std::byte*>(all.data()));
  for (std::size_t r = 1; r < count; ++r) {
    if (all[r].checksum == all[0].checksum) continue;
    const bool alike = all[r].text == all[0].text;
    const auto text = [&](std::size_t i) {
      all[i].text.back() = 0;
      std::string words(all[i].text.data());
      if (alike) words += " (checksum " + std::to_string(all[i].checksum) + ")";
      return words;
    };
    throw Error(ErrorCode::invalid_file, std::string(what) + " differ between ranks: rank 0 has " +
                                             text(0) + ", rank " + std::to_string(r) + " has " +
                                             text(r));
  }
}

Share share_of(std::int64_t count, int rank, int ranks) {
  return share_of(count, rank, ranks, unit_of(count, ranks));
}

Share share_of(std::int64_t count, int rank, int ranks, std::int64_t unit) {
  const std::int64_t units = (count + unit - 1) / unit;
  return {std::min(count, units * rank / ranks * unit),
          std::min(count, units * (rank + 1) / ranks * unit)};
}

std::vector<std::int64_t> share_sizes(std::int64_t count, int ranks, std::int64_t unit) {
  if (unit == 0) unit = unit_of(count, ranks);
  std::vector<std::int64_t> sizes;
  for (int r = 0; r < ranks; ++r) sizes.push_back(share_of(count, r, ranks, unit).size());
  return sizes;
}

}  // namespace kvant
