// The only file that names every instruction set: which tables this build has, which of them this
// machine runs, and the choice between them.

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "cpu/tables.hpp"
#include "dispatch/completed.hpp"
#include "dispatch/cpu_features.hpp"
#include "kvant/error.hpp"
#include "kvant/isa.hpp"
#if KVANT_HAS_CUDA
#include "cuda/tables.hpp"
#endif

namespace kvant {
namespace {

using namespace detail;

struct Entry {
  const KernelTable* table;
  const KernelTable* base;  ///< the set it builds on, above it in the list; null: none
  std::uint32_t needs;

  /// It adds to the set of the same name and is none of its own.
  [[nodiscard]] bool is_extension() const noexcept {
    return base != nullptr && std::string_view(base->name) == table->name;
  }
};

constexpr Entry kEntries[] = {
    {&kernels_scalar, nullptr, 0},
#define KVANT_ISA(name, base, features) {&kernels_##name, &kernels_##base, features},
#include "dispatch/isa_list.inc"
#undef KVANT_ISA
};
constexpr std::size_t kEntryCount = sizeof(kEntries) / sizeof(kEntries[0]);

std::uint32_t cpu_features() noexcept {
  static const std::uint32_t have = detect_cpu_features();
  return have;
}

/// (Asks for AMX's registers where nothing else is missing: when a set that needs them is listed,
/// named or would be the best.)
std::uint32_t missing_features(const Entry& entry) noexcept {
  const std::uint32_t missing = entry.needs & ~cpu_features();
  if (missing != kAmxGranted) return missing;
  static const bool granted = ask_for_amx();
  return granted ? 0 : missing;
}

/// The tables with what each takes from the set it builds on.
const KernelTable& completed_table(std::size_t entry) noexcept {
  static const auto tables = [] {
    std::array<KernelTable, kEntryCount> all{};
    for (std::size_t i = 0; i < kEntryCount; ++i) {
      all[i] = *kEntries[i].table;
      for (std::size_t base = 0; base < i; ++base) {
        if (kEntries[base].table == kEntries[i].base) {
          all[i] = completed(*kEntries[i].table, all[base]);
        }
      }
    }
    return all;
  }();
  return tables[entry];
}

/// Kernel sets of devices: chosen by name only, since their data lives elsewhere.
struct DeviceEntry {
  const KernelTable* table;
  bool (*is_here)() noexcept;
  const char* needs;
};
constexpr DeviceEntry kDevices[] = {
#if KVANT_HAS_CUDA
    {&kernels_cuda, &has_cuda_device, "CUDA device"},
#endif
    {nullptr, nullptr, nullptr}};

std::string list_instruction_sets() {
  std::string list;
  std::vector<IsaInfo> sets = instruction_sets();
  for (const IsaInfo& device : device_kernel_sets()) sets.push_back(device);
  for (const IsaInfo& isa : sets) {
    if (!list.empty()) list += ", ";
    list += isa.name;
    if (!isa.available) list += " (not here: no " + std::string(isa.missing) + ")";
  }
  return list;
}

const KernelTable& best_kernels() noexcept {
  std::size_t best = 0;
  for (std::size_t i = 0; i < kEntryCount; ++i) {
    if (missing_features(kEntries[i]) == 0) best = i;
  }
  return completed_table(best);
}

const KernelTable& kernels_by_name(std::string_view name, const char* asked_by) {
  bool exists = false;
  for (std::size_t i = kEntryCount; i-- > 0;) {  // the last of a name has the most
    if (kEntries[i].table->name != name) continue;
    if (missing_features(kEntries[i]) == 0) return completed_table(i);
    exists = true;
  }
  for (const DeviceEntry* device = kDevices; device->table != nullptr; ++device) {
    if (device->table->name != name) continue;
    if (device->is_here()) return *device->table;
    exists = true;
  }
  if (exists) {
    throw Error(ErrorCode::unavailable,
                std::string(asked_by) + ": kernel set \"" + std::string(name) +
                    "\" does not run on this machine; " + "there are: " + list_instruction_sets());
  }
  throw Error(ErrorCode::unavailable, std::string(asked_by) + ": no kernel set \"" +
                                          std::string(name) +
                                          "\"; there are: " + list_instruction_sets());
}

}  // namespace

std::vector<IsaInfo> instruction_sets() {
  std::vector<IsaInfo> list;
  for (const Entry& entry : kEntries) {
    if (entry.is_extension()) continue;
    const std::uint32_t missing = missing_features(entry);
    IsaInfo info{entry.table->name, missing == 0, {}};
    if (missing != 0) {
      info.missing = feature_name(static_cast<CpuFeature>(1u << std::countr_zero(missing)));
    }
    list.push_back(info);
  }
  return list;
}

std::vector<IsaInfo> device_kernel_sets() {
  std::vector<IsaInfo> list;
  for (const DeviceEntry* device = kDevices; device->table != nullptr; ++device) {
    const bool is_here = device->is_here();
    list.push_back({device->table->name, is_here, is_here ? "" : device->needs});
  }
  return list;
}

const KernelTable& kernels_for(std::string_view name) {
  if (!name.empty()) return kernels_by_name(name, "kvant::kernels_for");
  // Read once: the environment is not looked at again, whoever changes it.
  static const std::string from_environment = [] {
    const char* value = std::getenv("KVANT_ISA");
    return std::string(value != nullptr ? value : "");
  }();
  if (!from_environment.empty()) {
    const KernelTable& table = kernels_by_name(from_environment, "KVANT_ISA");
    if (table.memory == nullptr) return table;
    throw Error(ErrorCode::unavailable, "KVANT_ISA: kernel set \"" + from_environment +
                                            "\" works on a device's memory; ask for it with "
                                            "ContextOptions::isa where the data is there");
  }
  static const KernelTable& best = best_kernels();
  return best;
}

}  // namespace kvant
