// The only file that names every instruction set: which tables this build has, which of them this
// machine runs, and the choice between them.

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "cpu/tables.hpp"
#include "dispatch/cpu_features.hpp"
#include "kvant/error.hpp"
#include "kvant/isa.hpp"

namespace kvant {
namespace {

using namespace detail;

struct Entry {
  const KernelTable* table;
  std::uint32_t needs;
};

constexpr Entry kEntries[] = {
#define KVANT_ISA(name, features) {&kernels_##name, features},
#include "dispatch/isa_list.inc"
#undef KVANT_ISA
};

std::uint32_t cpu_features() noexcept {
  static const std::uint32_t have = detect_cpu_features();
  return have;
}

/// The table that runs: the entry's own, or with BF16 where the processor has that as well.
const KernelTable& complete(const KernelTable& table) noexcept {
#if KVANT_HAS_ISA_AVX512BF16
  static const KernelTable vnni_with_bf16 = [] {
    KernelTable both = kernels_avx512vnni;
    both.half = half_kernels_avx512bf16;
    return both;
  }();
  if (&table == &kernels_avx512vnni && (cpu_features() & kAvx512bf16) != 0) return vnni_with_bf16;
#endif
  return table;
}

std::uint32_t missing_features(const Entry& entry) noexcept {
  return entry.needs & ~cpu_features();
}

std::string list_instruction_sets() {
  std::string list;
  for (const IsaInfo& isa : instruction_sets()) {
    if (!list.empty()) list += ", ";
    list += isa.name;
    if (!isa.available) list += " (not here: no " + std::string(isa.missing) + ")";
  }
  return list;
}

const KernelTable& best_kernels() noexcept {
  const KernelTable* best = kEntries[0].table;
  for (const Entry& entry : kEntries) {
    if (missing_features(entry) == 0) best = entry.table;
  }
  return complete(*best);
}

const KernelTable& kernels_by_name(std::string_view name, const char* asked_by) {
  for (const Entry& entry : kEntries) {
    if (entry.table->name != name) continue;
    if (missing_features(entry) == 0) return complete(*entry.table);
    throw Error(ErrorCode::unavailable, std::string(asked_by) + ": kernel set \"" +
                                            std::string(name) + "\" does not run on this machine; " +
                                            "there are: " + list_instruction_sets());
  }
  throw Error(ErrorCode::unavailable, std::string(asked_by) + ": no kernel set \"" +
                                          std::string(name) +
                                          "\"; there are: " + list_instruction_sets());
}

}  // namespace

std::vector<IsaInfo> instruction_sets() {
  std::vector<IsaInfo> list;
  for (const Entry& entry : kEntries) {
    const std::uint32_t missing = missing_features(entry);
    IsaInfo info{entry.table->name, missing == 0, {}};
    if (missing != 0) {
      info.missing = feature_name(static_cast<CpuFeature>(1u << std::countr_zero(missing)));
    }
    list.push_back(info);
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
  if (!from_environment.empty()) return kernels_by_name(from_environment, "KVANT_ISA");
  static const KernelTable& best = best_kernels();
  return best;
}

}  // namespace kvant
