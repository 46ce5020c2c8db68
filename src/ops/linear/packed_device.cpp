// Packed weights in a device's memory: built on the host, copied once, all sections in one block.

#include "kvant/context.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/device_data.hpp"

namespace kvant {

using namespace detail;

namespace {

/// Sections begin at multiples of this many bytes, so that kernels may load whole lines.
constexpr std::size_t kSectionBytes = 256;

std::size_t padded(std::size_t bytes) noexcept {
  return (bytes + kSectionBytes - 1) / kSectionBytes * kSectionBytes;
}

/// Everything but the sections and where they are.
std::shared_ptr<PackedWeights::State> description_of(const PackedWeights::State& from) {
  auto state = std::make_shared<PackedWeights::State>();
  state->format = from.format;
  state->kernels = from.kernels;
  state->packed_for = from.packed_for;
  state->n = from.n;
  state->k = from.k;
  state->k_padded = from.k_padded;
  state->block = from.block;
  state->zero_points = from.zero_points;
  state->group = from.group;
  state->wide_scales = from.wide_scales;
  return state;
}

}  // namespace

std::shared_ptr<const PackedWeights::State> PackedWeights::State::on(
    const Memory& memory, std::shared_ptr<const State> host) {
  std::size_t bytes = 0;
  for_each_section(*host, [&](const auto& section) { bytes += padded(section.bytes()); });
  auto state = description_of(*host);
  state->memory = &memory;
  if (bytes == 0) return state;
  state->device = allocate_on(memory, bytes);
  std::byte* at = state->device.get();
  // Both in the same order: pair them by position.
  const void* from[kSections];
  std::size_t size[kSections];
  int count = 0;
  for_each_section(*host, [&](const auto& section) {
    from[count] = section.data();
    size[count++] = section.size();
  });
  count = 0;
  for_each_section(*state, [&](auto& section) {
    using T = typename std::remove_reference_t<decltype(section)>::value_type;
    const std::size_t section_bytes = size[count] * sizeof(T);
    copy_or_fail(memory, at, from[count], section_bytes, CopyKind::to_device, nullptr);
    section.map(section_bytes == 0 ? nullptr : reinterpret_cast<const T*>(at), size[count]);
    at += padded(section_bytes);
    ++count;
  });
  return state;
}

std::shared_ptr<const PackedWeights::State> PackedWeights::State::placed(
    const Context& context, std::shared_ptr<const State> host) {
  return context.memory() == nullptr ? host : on(*context.memory(), std::move(host));
}

std::shared_ptr<const PackedWeights::State> PackedWeights::State::on_host(
    std::shared_ptr<const State> from) {
  if (from == nullptr || from->memory == nullptr) return from;
  auto state = description_of(*from);
  const void* data[kSections];
  std::size_t size[kSections];
  int count = 0;
  for_each_section(*from, [&](const auto& section) {
    data[count] = section.data();
    size[count++] = section.size();
  });
  count = 0;
  for_each_section(*state, [&](auto& section) {
    auto* const to = section.allocate(static_cast<std::int64_t>(size[count]));
    copy_or_fail(*from->memory, to, data[count], size[count] * sizeof(*to), CopyKind::to_host,
                 nullptr);
    ++count;
  });
  return state;
}

}  // namespace kvant
