// What the lanes of an emulated warp or warpgroup do together: ldmatrix, shuffles, mma, wgmma.

#include <cstring>
#include <utility>

#include "cuda/emulator/emulator_state.hpp"
#include "cuda/emulator/swizzle.hpp"

namespace kvant::device::emulated {
namespace {

std::int32_t wrapping_sum(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

/// The rows of an mma's operands, 32 bytes of K each.
struct Rows {
  unsigned char a[16][32], b[8][32];

  explicit Rows(void* const* operands) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto& o = *static_cast<const Multiply*>(operands[lane]);
      const int row = lane / 4, k = lane % 4 * 4;
      std::memcpy(&a[row][k], &o.a[0], 4);
      std::memcpy(&a[row + 8][k], &o.a[1], 4);
      std::memcpy(&a[row][k + 16], &o.a[2], 4);
      std::memcpy(&a[row + 8][k + 16], &o.a[3], 4);
      std::memcpy(&b[row][k], &o.b[0], 4);
      std::memcpy(&b[row][k + 16], &o.b[1], 4);
    }
  }
};

void perform(const Product& p) {
  Block& block = own_block();
  const auto operand = [&](std::uint64_t descriptor, int row, std::int8_t(&to)[32]) {
    if (descriptor >> 62 != 1 || (descriptor >> 32 & 0x3FFF) != 1024 >> 4) {
      fail("wgmma: only rows of 128 bytes in the 128-byte swizzle");
    }
    const auto start = static_cast<std::uint32_t>((descriptor & 0x3FFF) << 4);
    const std::uint32_t at = start + static_cast<std::uint32_t>(row / 8 * 1024 + row % 8 * 128);
    for (std::uint32_t half = 0; half < 32; half += 16) {
      std::memcpy(to + half, shared_at(block, swizzled(at + half), 16, 16), 16);
    }
  };
  std::int8_t a[64][32], b[256][32];
  for (int r = 0; r < 64; ++r) operand(p.a, r, a[r]);
  for (int r = 0; r < p.n; ++r) operand(p.b, r, b[r]);
  for (int thread = 0; thread < kGroupLanes; ++thread) {
    for (int i = 0; i < p.n / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
      const int column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      std::int32_t sum = 0;
      for (int k = 0; k < 32; ++k) sum += a[row][k] * b[column][k];
      std::int32_t& d = p.d[thread][i];
      d = wrapping_sum(p.accumulate != 0 ? d : 0, sum);
    }
  }
}

struct WgmmaOperands {
  int n;
  std::int32_t* d;
  std::uint64_t a, b;
  int accumulate;
};

Warpgroup& warpgroup() {
  const int in_block = cluster->current % cluster->shape->threads;
  return own_block().warpgroups[static_cast<std::size_t>(in_block / kGroupLanes)];
}

}  // namespace

void load_matrix(void* const* operands) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int row = 0; row < 8; ++row) {
      const auto* source = static_cast<const LoadMatrix*>(operands[matrix * 8 + row]);
      const unsigned char* from = shared_at(own_block(), source->row, 16, 16);
      for (int word = 0; word < 4; ++word) {
        auto* target = static_cast<LoadMatrix*>(operands[row * 4 + word]);
        std::memcpy(target->r + matrix, from + word * 4, 4);
      }
    }
  }
}

void multiply_s8(void* const* operands) {
  const Rows rows(operands);
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* c = static_cast<std::int32_t*>(static_cast<const Multiply*>(operands[lane])->c);
    for (int i = 0; i < 4; ++i) {
      const unsigned char* a = rows.a[lane / 4 + i / 2 * 8];
      const unsigned char* b = rows.b[lane % 4 * 2 + i % 2];
      std::int32_t sum = 0;
      for (int k = 0; k < 32; ++k) {
        sum += static_cast<std::int8_t>(a[k]) * static_cast<std::int8_t>(b[k]);
      }
      c[i] = wrapping_sum(c[i], sum);
    }
  }
}

void multiply_bf16(void* const* operands) {  // the hardware's order of sums is its own
  const Rows rows(operands);
  const auto element = [](const unsigned char* row, int k) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, row + 2 * k, 2);
    return bits_float(static_cast<std::uint32_t>(bits) << 16);
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* c = static_cast<float*>(static_cast<const Multiply*>(operands[lane])->c);
    for (int i = 0; i < 4; ++i) {
      const unsigned char* a = rows.a[lane / 4 + i / 2 * 8];
      const unsigned char* b = rows.b[lane % 4 * 2 + i % 2];
      for (int k = 0; k < 16; ++k) c[i] += element(a, k) * element(b, k);
    }
  }
}

void shuffle(void* const* operands) {
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* o = static_cast<Shuffle*>(operands[lane]);
    o->result = static_cast<const Shuffle*>(operands[(lane ^ o->lanes) % kLanes])->value;
  }
}

void wgmma(int n, std::int32_t* d, std::uint64_t a, std::uint64_t b, int accumulate) {
  WgmmaOperands operands{n, d, a, b, accumulate};
  together(kGroupLanes, "wgmma", &operands, [](void* const* all) {
    Product product{};
    for (int t = 0; t < kGroupLanes; ++t) {
      const auto& o = *static_cast<const WgmmaOperands*>(all[t]);
      if (t == 0) product = {o.n, o.a, o.b, o.accumulate, {}};
      if (o.a != product.a || o.b != product.b) fail("wgmma: threads with different operands");
      product.d[t] = o.d;
    }
    if (settings.order == Order::early) return perform(product);
    warpgroup().products.push_back(product);
    ++warpgroup().open;
  });
}
void wgmma_commit() {
  together(kGroupLanes, "wgmma_commit", nullptr,
           [](void* const*) { warpgroup().groups.push_back(std::exchange(warpgroup().open, 0)); });
}
void wgmma_wait(int pending) {
  together(kGroupLanes, "wgmma_wait", &pending, [](void* const* all) {
    Warpgroup& group = warpgroup();
    const auto left = static_cast<std::size_t>(*static_cast<const int*>(all[0]) +
                                               (has_fault(Fault::short_wgmma_wait) ? 1 : 0));
    std::size_t count = 0;
    while (group.groups.size() > left) {
      count += group.groups.front();
      group.groups.erase(group.groups.begin());
    }
    for (std::size_t i = 0; i < count; ++i) perform(group.products[i]);
    group.products.erase(group.products.begin(),
                         group.products.begin() + static_cast<std::ptrdiff_t>(count));
  });
}
void wgmma_fence() {
  together(kGroupLanes, "wgmma_fence", nullptr, [](void* const*) {});
}

}  // namespace kvant::device::emulated
