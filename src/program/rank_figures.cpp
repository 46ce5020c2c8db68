#include "rank_figures.hpp"

#include <sys/resource.h>

#include <span>
#include <vector>

namespace kvant::program {

nlohmann::ordered_json rank_figures(Ranks& ranks, std::int64_t bytes_read, std::size_t weight_bytes,
                                    std::uint64_t device_bytes) {
  struct Figures {
    std::int64_t bytes_read, weight_bytes, device_bytes, peak_bytes, bytes_sent, exchanges;
    double seconds;
  };
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  const Traffic& traffic = ranks.traffic();
  const Figures mine{bytes_read,
                     static_cast<std::int64_t>(weight_bytes),
                     static_cast<std::int64_t>(device_bytes),
                     std::int64_t{usage.ru_maxrss} * 1024,
                     traffic.bytes_sent,
                     traffic.exchanges,
                     traffic.seconds};
  std::vector<Figures> all(static_cast<std::size_t>(ranks.size()));
  const std::vector<std::int64_t> sizes(all.size(), sizeof(Figures));
  ranks.all_gather(std::as_bytes(std::span(&mine, 1)), sizes,
                   reinterpret_cast<std::byte*>(all.data()));
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (std::size_t r = 0; r < all.size(); ++r) {
    list.push_back({{"rank", r},
                    {"bytes_read", all[r].bytes_read},
                    {"weight_bytes", all[r].weight_bytes},
                    {"device_bytes", all[r].device_bytes},
                    {"peak_bytes", all[r].peak_bytes},
                    {"bytes_sent", all[r].bytes_sent},
                    {"exchanges", all[r].exchanges},
                    {"exchange_seconds", all[r].seconds}});
  }
  return list;
}

}  // namespace kvant::program
