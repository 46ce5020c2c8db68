#pragma once

// Hopper's instructions, one function each (device.hpp): mbarriers, the tensor copy engine,
// clusters, wgmma. Kernels that use them exist in the code of other targets too, as traps: the host
// never launches them there.

#include <cstdint>

#include <cuda.h>  // CUtensorMap: a type only, no driver library is linked

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define KVANT_SM90A(...) __VA_ARGS__
#else
#define KVANT_SM90A(...) __trap()
#endif

namespace kvant::device {
inline namespace hardware {

KVANT_DEVICE void barrier_init(std::uint32_t barrier, int arrivals) {
  KVANT_SM90A(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
                           : "memory"));
}
/// Makes initialised barriers visible to the copy engine and to the cluster.
KVANT_DEVICE void barrier_init_fence() {
  KVANT_SM90A(asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory"));
}
KVANT_DEVICE void barrier_arrive(std::uint32_t barrier) {
  KVANT_SM90A(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory"));
}
/// Arrives, and makes the phase wait for so many bytes of the copy engine too.
KVANT_DEVICE void barrier_arrive_expect(std::uint32_t barrier, int bytes) {
  KVANT_SM90A(asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
      : "memory"));
}
/// Waits for the end of the phase of this parity.
KVANT_DEVICE void barrier_wait(std::uint32_t barrier, int parity) {
  KVANT_SM90A(
      asm volatile("{\n"
                   ".reg .pred done;\n"
                   "again:\n"
                   "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                   "@!done bra again;\n"
                   "}\n" ::"r"(barrier),
                   "r"(parity)
                   : "memory"));
}

/// Fetches a tensor's description before its first use.
KVANT_DEVICE void prefetch_map(const CUtensorMap& map) {
  KVANT_SM90A(asm volatile("prefetch.tensormap [%0];\n" ::"l"(&map) : "memory"));
}
/// One box of a 2-d tensor into shared memory; outside the tensor it is zero.
KVANT_DEVICE void tensor_load(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                              int x, int y) {
  KVANT_SM90A(
      asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::"
                   "bytes [%0], [%1, {%3, %4}], [%2];\n" ::"r"(to),
                   "l"(&map), "r"(barrier), "r"(x), "r"(y)
                   : "memory"));
}
/// The same to several blocks of the cluster (a bit each), to the same place and the same barrier
/// of each.
KVANT_DEVICE void tensor_load_to_cluster(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, int x, int y, std::uint32_t ranks) {
  KVANT_SM90A(
      asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::"
                   "bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;\n" ::"r"(to),
                   "l"(&map), "r"(barrier), "r"(x), "r"(y), "h"(static_cast<std::uint16_t>(ranks))
                   : "memory"));
}

KVANT_DEVICE int cluster_rank() {
  std::uint32_t rank = 0;
  KVANT_SM90A(asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank)));
  return static_cast<int>(rank);
}
/// All threads of all blocks of the cluster.
KVANT_DEVICE void cluster_barrier() {
  KVANT_SM90A(asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n" ::
                               : "memory"));
}
/// An address of this block's shared memory in the block of that rank.
KVANT_DEVICE std::uint32_t address_in_cluster(std::uint32_t address, int rank) {
  std::uint32_t there = 0;
  KVANT_SM90A(asm volatile("mapa.shared::cluster.u32 %0, %1, %2;\n"
                           : "=r"(there)
                           : "r"(address), "r"(rank)));
  return there;
}
/// At a barrier of another block. What the thread wrote before is not published by it: stages are
/// only read by those who release them.
KVANT_DEVICE void barrier_arrive_in_cluster(std::uint32_t barrier) {
  KVANT_SM90A(asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];\n" ::"r"(barrier)
                           : "memory"));
}
/// 16 bytes of another block's shared memory.
KVANT_DEVICE Words4 load_cluster(std::uint32_t address) {
  Words4 v = {};
  KVANT_SM90A(asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];\n"
                           : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                           : "r"(address)
                           : "memory"));
  return v;
}

/// Orders what the threads did with an accumulator before the products that follow.
KVANT_DEVICE void wgmma_fence() {
  KVANT_SM90A(asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"));
}
KVANT_DEVICE void wgmma_commit() {
  KVANT_SM90A(asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"));
}
template <int kPending>
KVANT_DEVICE void wgmma_wait() {
  KVANT_SM90A(asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory"));
}
template <int kRegisters>
KVANT_DEVICE void more_registers() {
  KVANT_SM90A(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters)));
}
template <int kRegisters>
KVANT_DEVICE void fewer_registers() {
  KVANT_SM90A(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters)));
}

#include "cuda/wgmma_ptx.inc"

}  // namespace hardware
}  // namespace kvant::device
