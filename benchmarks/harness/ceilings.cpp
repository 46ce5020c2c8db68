#include "harness/ceilings.hpp"

namespace kvant::bench {

#if KVANT_BENCH_X86
std::int64_t ceiling_avx2(std::int64_t steps);
std::int64_t ceiling_avxvnni(std::int64_t steps);
std::int64_t ceiling_avx512(std::int64_t steps);
std::int64_t ceiling_avx512vnni(std::int64_t steps);
std::int64_t ceiling_amx(std::int64_t steps);
#elif KVANT_BENCH_ARM
std::int64_t ceiling_neon(std::int64_t steps);
std::int64_t ceiling_neon_dotprod(std::int64_t steps);
std::int64_t ceiling_neon_i8mm(std::int64_t steps);
#endif

namespace {

struct Ceiling {
  std::string_view isa;
  std::string_view name;
  std::int64_t operations;  ///< 2 per product
  std::int64_t (*run)(std::int64_t);
};

/// The scalar set has no multiply instruction of its own to compare with.
constexpr Ceiling kCeilings[] = {
#if KVANT_BENCH_X86
    {"avx2", "vpmaddubsw + vpmaddwd + vpaddd", 6 * 32 * 2, &ceiling_avx2},
    {"avxvnni", "vpdpbusd (256 bits)", 12 * 32 * 2, &ceiling_avxvnni},
    {"avx512", "vpmaddubsw + vpmaddwd + vpaddd (512 bits)", 10 * 64 * 2, &ceiling_avx512},
    {"avx512vnni", "vpdpbusd", 24 * 64 * 2, &ceiling_avx512vnni},
    {"amx", "tdpbssd", 4 * 16 * 16 * 64 * 2, &ceiling_amx},
#elif KVANT_BENCH_ARM
    {"neon", "smull + smull2 + addp + sadalp", 6 * 16 * 2, &ceiling_neon},
    {"neon_dotprod", "sdot", 24 * 16 * 2, &ceiling_neon_dotprod},
    {"neon_i8mm", "smmla", 24 * 32 * 2, &ceiling_neon_i8mm},
#endif
    {"", "", 0, nullptr}};

const Ceiling* find(std::string_view isa) {
  for (const Ceiling& c : kCeilings) {
    if (c.run != nullptr && c.isa == isa) return &c;
  }
  return nullptr;
}

}  // namespace

std::int64_t ceiling_operations_per_step(std::string_view isa) {
  const Ceiling* c = find(isa);
  return c != nullptr ? c->operations : 0;
}

std::int64_t run_ceiling(std::string_view isa, std::int64_t steps) {
  const Ceiling* c = find(isa);
  return c != nullptr ? c->run(steps) : 0;
}

std::string_view ceiling_name(std::string_view isa) {
  const Ceiling* c = find(isa);
  return c != nullptr ? c->name : "none";
}

}  // namespace kvant::bench
