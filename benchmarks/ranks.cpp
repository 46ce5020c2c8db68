// One model by several ranks: tokens per second of decode, what is sent for a token, and whether a
// model of the cost (harness/rank_cost.hpp) foretells both. Run by mpirun, one number of ranks at a
// time; benchmarks/run.sh does it for 1, 2 and 4 on this machine.
//
//   bench_ranks --predict         what 2 to 64 machines would do with 10 to 400 Gbit/s
//   KVANT_ALONE=SECONDS           of a token in one rank, as the run with one rank printed it: the
//                                 prediction begins from there

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <thread>

#include "harness/model_timing.hpp"
#include "harness/random_llama.hpp"
#include "harness/rank_cost.hpp"
#include "harness/report.hpp"
#include "kvant/models/load.hpp"
#include "kvant/mpi.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

/// Llama 3.1 70B, int8 linears, embeddings and head in bf16.
constexpr DecoderShape kLlama70B{80, 8192, 8192, 1024, 28672, 128256};
/// Of a machine: a server with eight channels of DDR4 reads about as much.
constexpr double kReadRate = 150e9;

struct Network {
  const char* name;
  Link link;
};
/// Latencies as are usual for an MPI message: over TCP, and over RDMA.
constexpr Network kNetworks[] = {{"10 Gbit/s, 30 us", {30e-6, 10e9 / 8}},
                                 {"25 Gbit/s, 20 us", {20e-6, 25e9 / 8}},
                                 {"100 Gbit/s, 3 us", {3e-6, 100e9 / 8}},
                                 {"400 Gbit/s, 2 us", {2e-6, 400e9 / 8}}};

int predict() {
  const double alone = kLlama70B.token_bytes() / kReadRate;
  fmt::print("Llama 3.1 70B, int8, {:.1f} GB for a token, {:.0f} GB/s in each machine\n\n",
             kLlama70B.token_bytes() / 1e9, kReadRate / 1e9);
  fmt::print("| machines | weights on each | bytes into each: a token, a layer | computing |");
  for (const Network& network : kNetworks) fmt::print(" {} |", network.name);
  fmt::print("\n|---|---|---|---|---|---|---|---|\n");
  for (const int ranks : {1, 2, 4, 8, 16, 32, 64}) {
    const TokenTraffic traffic = token_traffic(kLlama70B, ranks);
    const double computing = token_seconds(kLlama70B, ranks, alone, {0, 1e30});
    fmt::print("| {} | {:.1f} GB | {:.2f} MB, {:.1f} KB | {:.1f} ms |", ranks,
               kLlama70B.token_bytes() / ranks / 1e9,
               static_cast<double>(traffic.received(0)) / 1e6,
               static_cast<double>(traffic.received(0)) / 1e3 / 80, computing * 1e3);
    for (const Network& network : kNetworks) {
      const double seconds = token_seconds(kLlama70B, ranks, alone, network.link);
      fmt::print(" {:.1f} tokens/s |", 1 / seconds);
    }
    fmt::print("\n");
  }
  return 0;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// The link as an all-gather sees it.
Link measure_link(Ranks& ranks) {
  const auto count = static_cast<std::size_t>(ranks.size());
  const auto time_of = [&](std::int64_t bytes, int repeats) {
    const std::vector<std::byte> mine(static_cast<std::size_t>(bytes));
    const std::vector<std::int64_t> sizes(count, bytes);
    std::vector<std::byte> all(mine.size() * count);
    std::vector<double> seconds;
    for (int i = 0; i < repeats; ++i) {
      const auto start = Clock::now();
      ranks.all_gather(mine, sizes, all.data());
      seconds.push_back(seconds_since(start));
    }
    return median(seconds);
  };
  constexpr std::int64_t kLarge = 4 << 20;
  const double shortest = time_of(8, 200);
  const double longest = time_of(kLarge, 10);
  return {shortest / steps_among(ranks.size()), static_cast<double>(kLarge) *
                                                    static_cast<double>(count - 1) /
                                                    std::max(longest - shortest, 1e-9)};
}

void ask(Ranks& ranks, const std::filesystem::path& folder, const Shape& s, const Options& options,
         Report* report) {
  const models::Config config = models::load_config(folder / "config.json");
  Context context({.threads = 1});
  models::LoadOptions load;
  load.plan = make_plan(config, {.scheme = models::Scheme::int8});
  load.ranks = &ranks;
  const models::Model model = load_model(context, folder, config, load);
  models::Cache cache;
  cache.reserve(model.block_config(), 256);
  const auto ids = some_ids(options.quick ? 24 : 96, config.vocab_size);
  std::vector<float> logits(static_cast<std::size_t>(config.vocab_size));
  std::vector<double> seconds;
  Traffic before = ranks.traffic();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const auto start = Clock::now();
    const auto hidden = models::forward(context, model, {&ids[t], 1}, cache);
    models::compute_logits(context, model, {hidden.data(), 1, config.n_embd},
                           {logits.data(), 1, config.vocab_size});
    seconds.push_back(seconds_since(start));
  }
  const Traffic after = ranks.traffic();
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const DecoderShape shape{config.n_layer,  config.n_embd,  config.q_dim(),
                           config.kv_dim(), config.n_inner, config.vocab_size};
  const Link link = ranks.size() > 1 ? measure_link(ranks) : Link{};
  if (report == nullptr) return;

  const double token = median(seconds);
  Record record;
  record.question = "ranks";
  record.m = s.m;
  record.n = s.n;
  record.k = s.k;
  record.isa = context.isa();
  record.unit = "tokens/s";
  record.value = {1 / token, 1 / *std::max_element(seconds.begin(), seconds.end()),
                  1 / *std::min_element(seconds.begin(), seconds.end())};
  record.what = fmt::format("decode by {} rank{}", ranks.size(), ranks.size() > 1 ? "s" : "");
  report->note(fmt::format(
      "{}: {:.6f} s a token, {:.2f} ms of it in exchanges, {} MB of weights on rank 0", record.what,
      token, 1e3 * (after.seconds - before.seconds) / static_cast<double>(tokens),
      model.weight_bytes() / 1'000'000));
  if (ranks.size() > 1) {
    const TokenTraffic expected = token_traffic(shape, ranks.size());
    const std::int64_t sent = (after.bytes_sent - before.bytes_sent) / tokens;
    const std::int64_t foretold = expected.parts[0] * (ranks.size() - 1);
    report->note(fmt::format(
        "sent for a token by rank 0: {} bytes in {} exchanges ({} a layer); "
        "foretold: {} in {}",
        sent, (after.exchanges - before.exchanges) / tokens,
        (sent - 4 * (config.n_embd + config.vocab_size / ranks.size()) * (ranks.size() - 1)) /
            config.n_layer,
        foretold, expected.exchanges));
    if (sent != foretold) report->wrong("other bytes were sent than the model of cost foretells");
    report->note(fmt::format("link: {:.1f} us, {:.2f} GB/s into a rank", link.latency * 1e6,
                             link.bandwidth / 1e9));
    const double cores = std::max(1u, std::thread::hardware_concurrency());
    const double crowding = std::max(1.0, ranks.size() / cores);
    if (crowding > 1) {
      report->note(fmt::format("{} ranks on {:.0f} cores: oversubscribed, they take turns",
                               ranks.size(), cores));
    }
    if (const char* alone = std::getenv("KVANT_ALONE")) {
      const double predicted = token_seconds(shape, ranks.size(), std::atof(alone), link, crowding);
      record.peers["prediction"] = 1 / predicted;
    }
  }
  report->add(record);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--predict") return predict();
  mpi::Communicator ranks;
  const Options options = parse_options(argc, argv, "ranks", "one model by several ranks");
  std::optional<Report> report;
  if (ranks.rank() == 0) report.emplace(options, std::string(Context().isa()));
  for (const Shape& s : options.shapes) {
    // Rank 0 makes the folder; the others, on this machine, find it.
    std::optional<RandomLlama> model;
    if (ranks.rank() == 0) model.emplace(s.m, s.n, s.k);
    ranks.wait_for_all();
    ask(ranks, RandomLlama::path_of(s.m, s.n, s.k), s, options, report ? &*report : nullptr);
    ranks.wait_for_all();
  }
  return report ? report->finish() : 0;
}
