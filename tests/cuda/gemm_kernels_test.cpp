// Every GEMM kernel by itself, asynchronous work late, early and at random: y is the scalar set's,
// bit for bit. Then the same kernels without something they rely on: each lack must show.

#include "cuda/emulator/emulated_cuda.hpp"
#include "cuda/gemm_problem.hpp"
#include "cuda/lacks.hpp"
#include "support/catch.hpp"

namespace kvant::test {

TEST_CASE("cuda gemm kernels: the scalar set's y, in every order of asynchronous work") {
  const ScopedSettings scope;
  const GemmShape shapes[] = {
      {.m = 1, .n = 1, .k = 1, .y = DType::int32},
      {.m = 5, .n = 70, .k = 300, .found = 3},
      {.m = 8, .n = 33, .k = 1000, .kept = 2, .found = 20, .y = DType::bfloat16, .from_x = true},
      {.m = 13, .n = 130, .k = 640, .kept = 5, .y = DType::float16, .bias_first = true},
      {.m = 31,
       .n = 64,
       .k = 2100,
       .found = 9,
       .y = DType::bfloat16,
       .bias_first = true,
       .from_x = true},
      {.m = 64, .n = 96, .k = 129, .y = DType::float16},
      {.m = 128, .n = 200, .k = 1100, .kept = 1, .found = 40, .from_x = true},
      {.m = 130, .n = 260, .k = 700, .y = DType::int32},
      {.m = 300, .n = 530, .k = 260, .kept = 3, .found = 30, .y = DType::bfloat16, .from_x = true},
      {.m = 530, .n = 770, .k = 130, .found = 6},
  };
  std::uint32_t seed = 1;
  for (const GemmShape& shape : shapes) {
    GemmProblem problem(shape);
    const std::string want = problem.want();
    for (const GemmKernelCase& kernel : kGemmKernelCases) {
      if (shape.m > kernel.most_rows) continue;
      for (const Order order : kOrders) {
        settings.order = order;
        settings.seed = seed++;
        kernel.launch(problem.launch());
        INFO(kernel.name << " " << shape.m << "x" << shape.n << "x" << shape.k << " order "
                         << static_cast<int>(order) << " seed " << settings.seed);
        CHECK(problem.y() == want);
      }
    }
  }
}

TEST_CASE("cuda gemm kernels: a part of the rows and outputs, features read from x") {
  GemmProblem problem({.m = 13, .n = 70, .k = 300, .kept = 2, .found = 7, .from_x = true});
  const std::string want = problem.want();
  const GemmArgs whole = problem.launch().args;
  for (const auto& [rows, outputs] : {std::pair{0, 0}, {0, 33}, {5, 0}, {5, 33}}) {
    GemmArgs part = whole;
    part.range.block_begin = rows;
    part.range.block_end = rows == 0 ? 5 : 13;
    part.range.panel_begin = outputs;
    part.range.panel_end = outputs == 0 ? 33 : 70;
    emulated_cuda.gemm_for(WeightFormat::int8_row).gemm(part);
  }
  CHECK(problem.y() == want);
}

TEST_CASE("cuda gemm kernels: whatever one of them relies on, its lack shows") {
  const ScopedSettings scope;
  const Lack lacks[] = {
      {Fault::short_copy_wait, 0, "mma"},
      {Fault::no_block_barrier, 0, "mma"},     // the first slice is there
      {Fault::no_block_barrier, 1, "mma"},     // ... and the next
      {Fault::no_block_barrier, 0, "decode"},  // the warps' sums are there
      {Fault::no_full_wait, 0, "wgmma"},
      {Fault::no_full_wait, 0, "stream"},
      {Fault::no_empty_wait, 0, "wgmma"},
      {Fault::no_empty_wait, 0, "stream, 8 rows"},
      {Fault::no_empty_wait, 0, "stream, 64 rows"},
      {Fault::fewer_bytes, 0, "wgmma"},
      {Fault::fewer_bytes, 0, "stream"},
      {Fault::short_wgmma_wait, 0, "wgmma"},
      {Fault::short_wgmma_wait, 0, "stream"},
      {Fault::no_named_barrier, 0, "wgmma"},
      {Fault::no_named_barrier, 0, "stream"},
      {Fault::no_multicast, 0, "wgmma, pairs"},
      {Fault::lost_arrival, 0, "wgmma, pairs"},
      {Fault::no_cluster_barrier, 0, "wgmma, pairs"},             // barriers are made
      {Fault::no_cluster_barrier, 1, "wgmma, pairs"},             // nobody leaves early
      {Fault::no_cluster_barrier, 0, "stream, 16 rows, K by 2"},  // the other's sums are there
      {Fault::no_cluster_barrier, 1, "stream, 16 rows, K by 2"},  // nobody leaves early
  };
  for (const GemmKernelCase& kernel : kGemmKernelCases) {
    // Long enough for every stage to be used again; features for what is staged.
    GemmProblem problem({.m = std::min<std::int64_t>(kernel.most_rows, 140),
                         .n = 150,
                         .k = kernel.feeding_thread == 128 ? 2 * 12 * 128 + 100 : 1100,
                         .found = 20,
                         .y = DType::bfloat16});
    const std::string want = problem.want();
    settings.feeding_thread = kernel.feeding_thread;
    settings.fault = Fault::none;
    INFO(kernel.name);
    CHECK(!shows(kernel, problem, want));
    for (const Lack& lack : lacks) {
      const std::string relies = lack.kernels;
      if (std::string(kernel.name).compare(0, relies.size(), relies) != 0) continue;
      settings.fault = lack.fault;
      settings.fault_index = lack.index;
      INFO(kernel.name << " with fault " << static_cast<int>(lack.fault) << " " << lack.index);
      CHECK(shows(kernel, problem, want));
    }
  }
}

}  // namespace kvant::test
