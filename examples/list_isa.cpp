// Which kernel sets this build has, which of them this machine runs, and which one is chosen.
//
//   list_isa               a table
//   list_isa --available   names that run here on the host, one a line
//   list_isa --chosen      the name that KVANT_ISA or the machine decides

#include <fmt/core.h>

#include <kvant/kvant.hpp>
#include <string_view>

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (argc > 2 || (!mode.empty() && mode != "--available" && mode != "--chosen")) {
    fmt::print(stderr, "usage: list_isa [--available | --chosen]\n");
    return 2;
  }
  try {
    const kvant::KernelTable& chosen = kvant::kernels_for();
    if (mode == "--chosen") {
      fmt::print("{}\n", chosen.name);
      return 0;
    }
    for (const kvant::IsaInfo& isa : kvant::instruction_sets()) {
      if (mode == "--available") {
        if (isa.available) fmt::print("{}\n", isa.name);
        continue;
      }
      const auto note = isa.available ? std::string(isa.name == chosen.name ? "runs, chosen" : "runs")
                                      : fmt::format("not here: no {}", isa.missing);
      fmt::print("{:<12} {}\n", isa.name, note);
    }
    if (mode == "--available") return 0;  // of sets that any program can be run with
    for (const kvant::IsaInfo& device : kvant::device_kernel_sets()) {
      fmt::print("{:<12} {}\n", device.name,
                 device.available ? "runs, on its own memory"
                                  : fmt::format("not here: no {}", device.missing));
    }
  } catch (const kvant::Error& error) {
    fmt::print(stderr, "list_isa: {}\n", error.what());
    return 1;
  }
  return 0;
}
