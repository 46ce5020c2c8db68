#pragma once

// Instructions of every GPU from sm_80 on, one function each (device.hpp).

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KVANT_DEVICE __device__ __forceinline__
#define KVANT_KERNEL(threads, blocks_per_sm) \
  __global__ void __launch_bounds__(threads, blocks_per_sm)
#define KVANT_CONSTANT const __grid_constant__

namespace kvant::device {
inline namespace hardware {

/// The block's dynamic shared memory, 1024-byte aligned (the swizzle of TMA and wgmma repeats
/// there).
KVANT_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(1024) unsigned char bytes[];
  return bytes;
}
/// Shared memory as instructions address it.
KVANT_DEVICE std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
KVANT_DEVICE void block_barrier() {
  __syncthreads();
}
/// A barrier of so many of the block's threads. @param name  1..15
KVANT_DEVICE void named_barrier(int name, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

/// 16 bytes from global to shared memory; of `bytes` (0 or 16) the rest becomes zero.
KVANT_DEVICE void copy_async_16(std::uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
KVANT_DEVICE void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/// Waits until at most kPending of this thread's groups are on their way.
template <int kPending>
KVANT_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

/// Four 8 x 16-byte matrices; lanes 8i..8i+7 name the rows of matrix i.
KVANT_DEVICE void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

/// c[16 x 8] += a[16 x 32] b[8 x 32]^T, int8 into int32.
KVANT_DEVICE void mma_s8(std::int32_t (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                         std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// c[16 x 8] += a[16 x 16] b[8 x 16]^T, bfloat16 into float.
KVANT_DEVICE void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// sum + the products of four bytes of a and of b, signed.
KVANT_DEVICE std::int32_t dot_s8(std::uint32_t a, std::uint32_t b, std::int32_t sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}

KVANT_DEVICE std::uint32_t shuffle_xor(std::uint32_t value, int lanes) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
}

KVANT_DEVICE int count_bits(std::uint32_t a) {
  return __popc(a);
}
/// The number of the lowest bit of a, which is not 0.
KVANT_DEVICE int lowest_bit(std::uint32_t a) {
  return __ffs(static_cast<int>(a)) - 1;
}
/// Bytes of a (0 to 3) and b (4 to 7) that the nibbles of selector name, the lowest first.
KVANT_DEVICE std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  return __byte_perm(a, b, selector);
}

// Rounded once each, never contracted, whatever the compiler's flags say.
KVANT_DEVICE float multiply(float a, float b) {
  return __fmul_rn(a, b);
}
KVANT_DEVICE float add(float a, float b) {
  return __fadd_rn(a, b);
}
KVANT_DEVICE float divide(float a, float b) {
  return __fdiv_rn(a, b);
}
KVANT_DEVICE float fused_multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
KVANT_DEVICE float round_half_even(float a) {
  return rintf(a);
}
KVANT_DEVICE std::uint32_t float_bits(float a) {
  return __float_as_uint(a);
}
KVANT_DEVICE float bits_float(std::uint32_t a) {
  return __uint_as_float(a);
}
KVANT_DEVICE float half_to_float(std::uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
KVANT_DEVICE std::uint16_t float_to_half(float a) {
  return __half_as_ushort(__float2half_rn(a));
}
KVANT_DEVICE std::uint16_t float_to_bfloat(float a) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(a));
}
KVANT_DEVICE void atomic_min(std::int32_t* at, std::int32_t value) {
  atomicMin(at, value);
}
KVANT_DEVICE void atomic_max(std::int32_t* at, std::int32_t value) {
  atomicMax(at, value);
}
KVANT_DEVICE void atomic_min(std::uint32_t* at, std::uint32_t value) {
  atomicMin(at, value);
}
KVANT_DEVICE void atomic_max(std::uint32_t* at, std::uint32_t value) {
  atomicMax(at, value);
}

struct Words4 {
  std::uint32_t w[4];
};
/// 16 bytes that are read once: past the first-level cache.
KVANT_DEVICE Words4 load_stream(const void* from) {
  Words4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(from));
  return v;
}

/// Kernels of a queue may start before the one in front is over (launch.hpp); what that one writes
/// is there, and may be written, only after this. Weights, which no kernel writes, may be read
/// before. On sm_80, where kernels follow each other, nothing.
KVANT_DEVICE void wait_for_previous_kernel() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
/// The kernel behind may take the processors that this one leaves free.
KVANT_DEVICE void let_next_kernel_start() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

}  // namespace hardware
}  // namespace kvant::device
