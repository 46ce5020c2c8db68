#include "harness/report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/machine.hpp"

namespace kvant::bench {

Report::Report(const Options& options, std::string isa) : options_(options) {
  const Machine m = this_machine();
  fmt::print("{}, {} cores, L1d {} KiB, L2 {} KiB, L3 {} MiB; kernels {}; {}; commit {}\n", m.cpu,
             m.cores, m.l1_data >> 10, m.l2 >> 10, m.l3 >> 20, isa, m.compiler, m.commit);
  fmt::print("{:<14} {:>17} {:>3} {:>16} {:>4} {:>10} {:<6} {:>15} {:>8}  {}\n", "question",
             "shape", "thr", "dtype", "outl", "value", "unit", "low..high", "ceiling",
             "peers (kvant / peer)");
}

void Report::add(const Record& r) {
  records_.push_back(r);
  std::string peers;
  for (const auto& [name, value] : r.peers) {
    peers += fmt::format("{}{} {:.2f}x", peers.empty() ? "" : ", ", name,
                         value > 0 ? r.value.value / value : 0.0);
  }
  const std::string shape = r.m > 0 ? fmt::format("{}x{}x{}", r.m, r.n, r.k) : r.what;
  fmt::print("{:<14} {:>17} {:>3} {:>16} {:>4} {:>10.2f} {:<6} {:>7.1f}..{:<6.1f} {:>8}  {}\n",
             r.question, shape, r.threads, r.dtype, r.outliers, r.value.value, r.unit,
             r.value.lowest, r.value.highest,
             r.ceiling > 0 ? fmt::format("{:.3f}", r.value.value / r.ceiling) : "-", peers);
  std::fflush(stdout);
}

void set_peers(Record& record, const std::vector<Entry>& entries,
               const std::vector<Figure>& figures, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) record.peers[entries[i].name] = figures[i].value;
}

void Report::note_absent(const std::string& peer) {
  note("peer " + peer + ": not on this machine or not built in");
}

void Report::note(const std::string& text) {
  if (std::find(notes_.begin(), notes_.end(), text) != notes_.end()) return;
  notes_.push_back(text);
  fmt::print("note: {}\n", text);
}

void Report::wrong(const std::string& what) {
  wrong_ = true;
  fmt::print(stderr, "WRONG ANSWER: {}\n", what);
}

int Report::finish() {
  if (!options_.json.empty()) {
    const Machine machine = this_machine();
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Record& r : records_) {
      nlohmann::ordered_json peers = nlohmann::ordered_json::object();
      for (const auto& [name, value] : r.peers) {
        peers[name] = {{"value", value}, {"ratio", value > 0 ? r.value.value / value : 0.0}};
      }
      nlohmann::ordered_json j = {{"question", r.question},
                                  {"m", r.m},
                                  {"n", r.n},
                                  {"k", r.k},
                                  {"threads", r.threads},
                                  {"isa", r.isa},
                                  {"dtype", r.dtype},
                                  {"outliers", r.outliers},
                                  {"value", r.value.value},
                                  {"unit", r.unit},
                                  {"ceiling", r.ceiling},
                                  {"of_ceiling", r.ceiling > 0 ? r.value.value / r.ceiling : 0.0},
                                  {"peers", peers},
                                  {"lowest", r.value.lowest},
                                  {"highest", r.value.highest},
                                  {"cpu", machine.cpu},
                                  {"compiler", machine.compiler},
                                  {"commit", machine.commit}};
      if (!r.what.empty()) j["what"] = r.what;
      if (!r.format.empty()) {
        j["format"] = r.format;
        j["group"] = r.group;
      }
      list.push_back(std::move(j));
    }
    std::ofstream file(options_.json);
    file << list.dump(1) << '\n';
    if (!file.flush()) {
      fmt::print(stderr, "cannot write {}\n", options_.json);
      return 1;
    }
  }
  return wrong_ ? 1 : 0;
}

}  // namespace kvant::bench
