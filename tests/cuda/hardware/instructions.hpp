#pragma once

// Every function of src/cuda/device.hpp in small kernels over random input. Compiled twice: by nvcc
// for the device, and for its emulation; the outputs must be the same words.

#include "cuda/float_elements.hpp"
#include "cuda/hardware/instruction_cases.hpp"
#include "cuda/wgmma_ring.hpp"

namespace kvant::test {
namespace {

using std::uint32_t;

/// Words per thread of what a case reads and writes.
struct CaseData {
  const uint32_t* in;
  uint32_t* out;
};

KVANT_DEVICE uint32_t* shared_words() {
  return reinterpret_cast<uint32_t*>(device::shared_memory());
}

KVANT_KERNEL(32, 1) warp_case(KVANT_CONSTANT CaseData d) {
  const auto lane = static_cast<int>(threadIdx.x);
  const uint32_t* const in = d.in + lane * 64;
  uint32_t* const out = d.out + lane * 64;
  int at = 0;
  uint32_t a[4] = {in[0], in[1], in[2], in[3]};
  std::int32_t c[4] = {static_cast<std::int32_t>(in[4]), static_cast<std::int32_t>(in[5]),
                       static_cast<std::int32_t>(in[6]), static_cast<std::int32_t>(in[7])};
  device::mma_s8(c, a, in[8], in[9]);
  for (const std::int32_t v : c) out[at++] = static_cast<uint32_t>(v);
  // Small integers as bfloat16: every order of sums gives the same floats.
  const auto small = [](uint32_t bits) {
    const uint32_t low = device::float_bits(static_cast<float>(static_cast<int>(bits % 17) - 8));
    const uint32_t high =
        device::float_bits(static_cast<float>(static_cast<int>(bits / 17 % 17) - 8));
    return low >> 16 | (high & 0xFFFF0000u);
  };
  float f[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  uint32_t half_a[4] = {small(in[10]), small(in[11]), small(in[12]), small(in[13])};
  device::mma_bf16(f, half_a, small(in[14]), small(in[15]));
  for (const float v : f) out[at++] = device::float_bits(v);
  for (int lanes = 1; lanes < 32; lanes *= 2) out[at++] = device::shuffle_xor(in[16], lanes);
  // cp.async, whole and zero-filled, then ldmatrix of permuted rows.
  const uint32_t to = device::shared_address(shared_words()) + static_cast<uint32_t>(lane * 16);
  device::copy_async_16(to, in + 20, lane % 3 == 0 ? 0 : 16);
  device::copy_async_commit();
  device::copy_async_16(to + 512, in + 24, 16);
  device::copy_async_commit();
  device::copy_async_wait<0>();
  device::block_barrier();
  uint32_t r[4];
  const auto row = static_cast<uint32_t>((lane * 7 + 3) % 64);
  device::load_matrix_x4(r, device::shared_address(shared_words()) + row * 16);
  for (const uint32_t v : r) out[at++] = v;
  out[at++] = static_cast<uint32_t>(device::count_bits(in[17]));
  out[at++] = static_cast<uint32_t>(device::lowest_bit(in[18] | 0x80000000u));
  out[at++] = device::permute_bytes(in[17], in[18], in[19] & 0x7777u);
  const device::Words4 words = device::load_stream(in + 28);
  for (const uint32_t v : words.w) out[at++] = v;
  out[at++] =
      static_cast<uint32_t>(device::dot_s8(in[32], in[33], static_cast<std::int32_t>(in[34])));
}

/// Arithmetic on any bits; a NaN counts as one NaN.
KVANT_KERNEL(256, 1) arithmetic_case(KVANT_CONSTANT CaseData d) {
  const uint32_t* const in = d.in + threadIdx.x * 64;
  uint32_t* const out = d.out + threadIdx.x * 64;
  int at = 0;
  const auto store = [&](float v) {
    out[at++] = is_nan(v) ? kQuietNaNBits : device::float_bits(v);
  };
  for (int i = 0; i < 3; ++i) {
    const float a = device::bits_float(in[3 * i]), b = device::bits_float(in[3 * i + 1]);
    const float c = device::bits_float(in[3 * i + 2]);
    store(device::multiply(a, b));
    store(device::add(a, b));
    store(device::divide(a, b));
    store(device::fused_multiply_add(a, b, c));
    store(device::round_half_even(a));
    store(rounded_to(DType::float16, a));
    store(rounded_to(DType::bfloat16, a));
    store(device::half_to_float(static_cast<std::uint16_t>(in[3 * i])));
    // Values of a usual size, where halves round and underflow.
    const float near = device::bits_float((in[3 * i] & 0x8FFFFFFFu) | 0x30000000u);
    store(rounded_to(DType::float16, near));
    store(device::round_half_even(device::multiply(near, 4096.0f)));
  }
}

/// Atomics and a barrier of some threads.
KVANT_KERNEL(128, 1) block_case(KVANT_CONSTANT CaseData d) {
  uint32_t* const words = shared_words();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread < 64) {
    words[thread] = d.in[thread];
    device::named_barrier(1, 64);
    d.out[thread * 64] = words[63 - thread];
  }
  device::block_barrier();
  auto* const extremes = d.out + 128 * 64;  // zero before
  device::atomic_max(extremes, d.in[thread * 64]);
  device::atomic_min(reinterpret_cast<std::int32_t*>(extremes + 1),
                     static_cast<std::int32_t>(d.in[thread * 64]));
  device::atomic_max(reinterpret_cast<std::int32_t*>(extremes + 2),
                     static_cast<std::int32_t>(d.in[thread * 64]));
}

// ---- sm_90a ------------------------------------------------------------------------------------

/// A box of the tensor copy engine, past the tensor's edges too, as it lies in shared memory; in a
/// cluster of two, where each block's box also goes to the other, and each reads a word of the
/// other.
KVANT_KERNEL(128, 1)
tensor_case(KVANT_CONSTANT device::TensorMap map, KVANT_CONSTANT CaseData d) {
  using TwoBoxes = Ring<1, 2 * kBoxRows * kSliceBytes>;
  const uint32_t shared = device::shared_address(device::shared_memory());
  const TwoBoxes ring{shared, shared + TwoBoxes::kDataBytes};
  const int rank = device::cluster_rank();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) ring.init(2);
  device::cluster_barrier();
  if (thread == 0) {
    device::barrier_arrive_expect(ring.full(0), TwoBoxes::kDataBytes);
    device::tensor_load_to_cluster(shared + static_cast<uint32_t>(rank * kBoxRows * kSliceBytes),
                                   map, ring.full(0), 64 - rank * 96, 5 + rank * 7, 3);
  }
  ring.wait_full(0);
  const int words = TwoBoxes::kDataBytes / 4;
  uint32_t* const out = d.out + rank * (words + 256);
  for (int i = thread; i < words; i += 128) out[i] = shared_words()[i];
  device::block_barrier();  // all have read what the next box overwrites
  // Both blocks release both stages; a second use tells that the phases go on.
  if (thread < 2) {
    device::barrier_arrive_in_cluster(device::address_in_cluster(ring.empty(0), thread));
  }
  ring.wait_empty(1);
  if (thread == 0) {
    device::barrier_arrive_expect(ring.full(1), kBoxRows * kSliceBytes);
    device::tensor_load(shared, map, ring.full(1), 0, rank);
  }
  ring.wait_full(1);
  device::cluster_barrier();
  if (thread < 32) {
    const device::Words4 there = device::load_cluster(
        device::address_in_cluster(shared + static_cast<uint32_t>(thread * 16), 1 - rank));
    for (int i = 0; i < 4; ++i) out[words + thread * 4 + i] = there.w[i];
  }
  device::cluster_barrier();
}

/// Products of a warpgroup of every width: operands through the copy engine, overwriting and
/// adding.
template <int kN>
KVANT_KERNEL(128, 1)
wgmma_case(KVANT_CONSTANT device::TensorMap map_a, KVANT_CONSTANT device::TensorMap map_b,
           KVANT_CONSTANT CaseData d) {
  using Operands = Ring<1, (64 + kN) * kSliceBytes>;
  const uint32_t shared = device::shared_address(device::shared_memory());
  const Operands ring{shared, shared + Operands::kDataBytes};
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) ring.init(1);
  device::block_barrier();
  if (thread == 0) {
    device::barrier_arrive_expect(ring.full(0), Operands::kDataBytes);
    device::tensor_load(shared, map_a, ring.full(0), 0, 0);
    device::tensor_load(shared + 64 * kSliceBytes, map_b, ring.full(0), 0, 0);
  }
  ring.wait_full(0);
  std::int32_t sums[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) sums[i] = static_cast<std::int32_t>(d.in[thread * 64 + i % 64]);
  const std::uint64_t a = device::wgmma_operand(shared);
  const std::uint64_t b = device::wgmma_operand(shared + 64 * kSliceBytes);
  device::wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    device::wgmma_s8(sums, a + static_cast<std::uint64_t>(step * 2),
                     b + static_cast<std::uint64_t>(step * 2), step != 1 ? 1 : 0);
  }
  device::wgmma_commit();
  device::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) {
    d.out[thread * (kN / 2) + i] = static_cast<uint32_t>(sums[i]);
  }
}

template <int kN>
void launch_wgmma_case(const CaseData& d, const unsigned char* tensor) {
  device::launch({.grid = {1, 1, 1}, .threads = 128, .shared_bytes = (64 + kN) * kSliceBytes + 16},
                 &wgmma_case<kN>, device::tensor_map(tensor, kSliceBytes, 64, 64),
                 device::tensor_map(tensor + 64 * kSliceBytes, kSliceBytes, kN, kN), d);
}

/// Runs a case; `tensor` is kTensorBytes of input in the device's memory.
inline void launch_case(InstructionCase which, const CaseData& d, const unsigned char* tensor) {
  switch (which) {
    case InstructionCase::warp:
      return device::launch({.threads = 32, .shared_bytes = 1024}, &warp_case, d);
    case InstructionCase::arithmetic: return device::launch({.threads = 256}, &arithmetic_case, d);
    case InstructionCase::block:
      return device::launch({.threads = 128, .shared_bytes = 1024}, &block_case, d);
    case InstructionCase::tensor:
      return device::launch({.grid = {2, 1, 1},
                             .threads = 128,
                             .shared_bytes = 2 * kBoxRows * kSliceBytes + 16,
                             .cluster = 2},
                            &tensor_case,
                            device::tensor_map(tensor, kTensorWidth, kTensorRows, kBoxRows), d);
    case InstructionCase::wgmma_8: return launch_wgmma_case<8>(d, tensor);
    case InstructionCase::wgmma_16: return launch_wgmma_case<16>(d, tensor);
    case InstructionCase::wgmma_32: return launch_wgmma_case<32>(d, tensor);
    case InstructionCase::wgmma_64: return launch_wgmma_case<64>(d, tensor);
    case InstructionCase::wgmma_128: return launch_wgmma_case<128>(d, tensor);
    case InstructionCase::wgmma_256: return launch_wgmma_case<256>(d, tensor);
  }
}

}  // namespace
}  // namespace kvant::test
