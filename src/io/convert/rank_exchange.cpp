#include "io/convert/rank_exchange.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

namespace kvant::io {
namespace {

struct RecordHead {
  std::uint64_t name_bytes;
  std::uint64_t offset;
  std::uint64_t bytes;
};

}  // namespace

void RankExchange::keep_own(std::vector<std::unique_ptr<TensorJob>>& jobs) const {
  std::vector<std::size_t> order(jobs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto bytes = [&](std::size_t i) { return jobs[i]->source().info->bytes; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bytes(a) > bytes(b); });
  // The largest first, each to who has least.
  std::vector<std::uint64_t> load(static_cast<std::size_t>(ranks_.size()));
  std::vector<std::size_t> owner(jobs.size());
  for (const std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += bytes(i);
    owner[i] = static_cast<std::size_t>(least - load.begin());
  }
  std::vector<std::unique_ptr<TensorJob>> own;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (owner[i] == static_cast<std::size_t>(ranks_.rank())) own.push_back(std::move(jobs[i]));
  }
  jobs = std::move(own);
}

void RankExchange::add(std::string_view tensor, std::uint64_t offset,
                       std::span<const std::byte> bytes) {
  const RecordHead head{tensor.size(), offset, bytes.size()};
  const auto append = [this](const void* from, std::size_t count) {
    const auto* at = static_cast<const std::byte*>(from);
    waiting_.insert(waiting_.end(), at, at + count);
  };
  const std::lock_guard lock(mutex_);
  append(&head, sizeof head);
  append(tensor.data(), tensor.size());
  append(bytes.data(), bytes.size());
}

bool RankExchange::exchange(bool done, CheckpointWriter& out) {
  struct Announcement {
    std::int64_t bytes;
    std::int64_t done;
  };
  const auto count = static_cast<std::size_t>(ranks_.size());
  const Announcement mine{std::ssize(waiting_), done ? 1 : 0};
  std::vector<Announcement> all(count);
  ranks_.all_gather(std::as_bytes(std::span(&mine, 1)),
                    std::vector<std::int64_t>(count, sizeof(Announcement)),
                    reinterpret_cast<std::byte*>(all.data()));
  std::vector<std::int64_t> sizes;
  bool all_done = true;
  for (const Announcement& each : all) {
    sizes.push_back(each.bytes);
    all_done = all_done && each.done != 0;
  }
  const std::int64_t total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  if (total == 0) return all_done;
  std::vector<std::byte> records(writes() ? static_cast<std::size_t>(total) : 0);
  ranks_.gather(waiting_, sizes, records.data());
  waiting_.clear();
  for (std::span<const std::byte> left(records); !left.empty();) {
    RecordHead head{};
    std::memcpy(&head, left.data(), sizeof head);
    const auto* name = reinterpret_cast<const char*>(left.data() + sizeof head);
    left = left.subspan(sizeof head + static_cast<std::size_t>(head.name_bytes));
    out.write({name, static_cast<std::size_t>(head.name_bytes)}, head.offset,
              left.first(static_cast<std::size_t>(head.bytes)));
    left = left.subspan(static_cast<std::size_t>(head.bytes));
  }
  return all_done;
}

}  // namespace kvant::io
