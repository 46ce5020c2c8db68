// Every kernel of weights in groups, of 4 bits and others, by itself, asynchronous work late, early
// and at random: y is the scalar set's, bit for bit, in groups of every kind. Then without a
// barrier or a wait: it shows.

#include "cuda/emulator/emulated_cuda.hpp"
#include "cuda/lacks.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/catch.hpp"

namespace kvant::test {
namespace {

template <class Codes>
constexpr GemmKernelCase kNibbleKernelCases[] = {
    {"decode, 8 rows",
     [](const GemmLaunch& g) { launch_decode_nibble_tile<NibbleDecode8, Codes>(g, nullptr); }, 8,
     -1},
    {"decode, 16 rows",
     [](const GemmLaunch& g) { launch_decode_nibble_tile<NibbleDecode16, Codes>(g, nullptr); }, 16,
     -1},
    {"decode, 32 rows",
     [](const GemmLaunch& g) { launch_decode_nibble_tile<NibbleDecode32, Codes>(g, nullptr); }, 32,
     -1},
    {"chosen", [](const GemmLaunch& g) { launch_gemm_4_bits<Codes>(g.args, device::properties()); },
     4096, -1},
    {"mma, small tile",
     [](const GemmLaunch& g) { launch_gemm_nibbles<SmallNibbleTile, Codes>(g, nullptr); }, 4096,
     -1},
    {"mma, large tile",
     [](const GemmLaunch& g) { launch_gemm_nibbles<LargeNibbleTile, Codes>(g, nullptr); }, 4096,
     -1},
};

constexpr GemmKernelCase kGroupKernelCases[] = {
    {"groups", [](const GemmLaunch& g) { launch_gemm_groups(g, nullptr); }, 4096, -1},
};

std::span<const GemmKernelCase> kernels_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::int8_group: return kGroupKernelCases;
    case WeightFormat::nf4: return kNibbleKernelCases<BookCodes<kNf4>>;
    case WeightFormat::fp4: return kNibbleKernelCases<BookCodes<kFp4>>;
    default: return kNibbleKernelCases<LinearCodes>;
  }
}

struct Groups {
  WeightFormat format;
  std::int64_t block;
  bool zero_points = false;
};

/// GemmProblem with weights in groups, for both sides from the same codes.
class NibbleProblem : public GemmProblem {
 public:
  NibbleProblem(const GemmShape& s, const Groups& groups)
      : GemmProblem(s),
        weights_(packed(emulated_cuda, groups)),
        scalar_weights_(packed(kernels_for("scalar"), groups)),
        b_(std::span<const std::byte>(weights_->codes.data(), weights_->codes.size())) {}

  [[nodiscard]] GemmArgs args() override {
    GemmArgs g = GemmProblem::args();
    g.b = b_.data();
    put_panels(g, *weights_);
    g.columns.scale = nullptr;  // they lie among the codes
    g.epilogue.col_scale = nullptr;
    return g;
  }
  [[nodiscard]] std::string want() override {
    GemmArgs g = args();
    g.b = scalar_weights_->codes.data();
    put_panels(g, *scalar_weights_);
    // The same activations, their rows padded to another multiple.
    const std::int64_t own = g.range.k_padded, padded = scalar_weights_->k_padded;
    std::vector<std::int8_t> a;
    for (std::int64_t m = 0; m < g.range.m; ++m) {
      const auto* const row = static_cast<const std::int8_t*>(g.a) + m * own;
      a.insert(a.end(), row, row + padded);
    }
    g.a = a.data();
    g.range.k_padded = padded;
    kernels_for("scalar").gemm_for(scalar_weights_->format).gemm(g);
    return y();
  }

 private:
  static void put_panels(GemmArgs& g, const PackedWeights::State& weights) {
    if (weights.is_groups()) {
      g.groups = weights.groups();
    } else {
      g.nibbles = weights.nibbles();
    }
  }
  [[nodiscard]] std::shared_ptr<const PackedWeights::State> packed(const KernelTable& kernels,
                                                                   const Groups& groups) const {
    const std::int64_t n = shape().n, k = shape().k;
    std::mt19937_64 generator(test_seed());
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k));
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(generator() & 15u);
    detail::PackedWeightsBuilder builder("test", kernels, groups.format, n, k, groups.block,
                                         groups.zero_points);
    builder.pack_rows(0, reinterpret_cast<const std::byte*>(codes.data()), n, k);
    const std::int64_t scales = builder.state().row_scales();
    std::vector<std::uint8_t> zeros(static_cast<std::size_t>(scales));
    for (std::int64_t row = 0; row < n; ++row) {
      std::vector<float> of_row = random_floats(generator, scales, 0.02f);
      for (float& scale : of_row) scale = static_cast<float>(float16(scale));
      for (std::uint8_t& zero : zeros) zero = static_cast<std::uint8_t>(generator() % 17);
      builder.set_scales(row, of_row.data(), zeros.data());
    }
    return builder.finish();
  }

  std::shared_ptr<const PackedWeights::State> weights_, scalar_weights_;
  GuardedBuffer<std::byte> b_;
};

}  // namespace

TEST_CASE("cuda kernels of groups: the scalar set's y, in every order of asynchronous work") {
  const ScopedSettings scope;
  const Groups groups[] = {
      {WeightFormat::int4_group, 64},
      {WeightFormat::int4_group, 32, true},
      {WeightFormat::int4_group, 128, true},
      {WeightFormat::int4_group, 96},
      {WeightFormat::int4_group, 4096},
      {WeightFormat::nf4, 64},
      {WeightFormat::fp4, 128},
      {WeightFormat::int8_group, 128},
      {WeightFormat::int8_group, 96},
  };
  // K is a multiple of 64, for formats whose blocks go on from row to row, or odd.
  const GemmShape shapes[] = {
      {.m = 1, .n = 1, .k = 64},
      {.m = 1, .n = 71, .k = 4416, .kept = 1, .found = 2, .y = DType::float16},
      {.m = 7, .n = 33, .k = 2368, .found = 5, .y = DType::bfloat16, .from_x = true},
      {.m = 5, .n = 47, .k = 301, .found = 3},
      {.m = 15, .n = 40, .k = 1984, .found = 2, .from_x = true},
      {.m = 29, .n = 19, .k = 3008, .kept = 3, .y = DType::float16},
      {.m = 33, .n = 67, .k = 576, .kept = 2, .found = 20, .y = DType::float16, .from_x = true},
      {.m = 130, .n = 141, .k = 700, .found = 9, .y = DType::bfloat16},
      {.m = 70, .n = 259, .k = 320, .kept = 17, .y = DType::float32},
  };
  std::uint32_t seed = 1;
  for (const Groups& group : groups) {
    for (const GemmShape& shape : shapes) {
      const bool crosses_rows = describe(group.format).axis == BlockAxis::flattened;
      if (crosses_rows && shape.k % 64 != 0) continue;
      NibbleProblem problem(shape, group);
      const std::string want = problem.want();
      for (const GemmKernelCase& kernel : kernels_of(group.format)) {
        if (shape.m > kernel.most_rows) continue;
        for (const Order order : kOrders) {
          settings.order = order;
          settings.seed = seed++;
          kernel.launch(problem.launch());
          INFO(kernel.name << " " << to_string(group.format) << " in blocks of " << group.block
                           << (group.zero_points ? " with zero points " : " ") << shape.m << "x"
                           << shape.n << "x" << shape.k << " order " << static_cast<int>(order)
                           << " seed " << settings.seed);
          CHECK(problem.y() == want);
        }
      }
    }
  }
}

TEST_CASE("cuda kernels of groups: whatever one of them relies on, its lack shows") {
  const ScopedSettings scope;
  // Ten slices of K: the last lies where the ring begins, as the first panel of sums will. In
  // the others two passes or more (of groups of 32), so that the room of the first is used again.
  constexpr int kSlices = 10, kPasses = 4;
  std::vector<Lack> with_features = {{Fault::short_copy_wait, 0, "mma"},
                                     {Fault::short_copy_wait, 0, "decode"}};
  for (int slice = 0; slice < kSlices; ++slice) {
    with_features.push_back({Fault::no_block_barrier, slice, "mma"});  // it is there, with scales
  }
  with_features.push_back({Fault::no_block_barrier, kSlices, "mma"});      // the ring is free
  with_features.push_back({Fault::no_block_barrier, kSlices + 3, "mma"});  // features are there
  with_features.push_back({Fault::no_block_barrier, kSlices + 4, "mma"});  // ... and were used
  for (int pass = 0; pass < kPasses; ++pass) {
    with_features.push_back({Fault::no_block_barrier, pass, "groups"});  // its sums are there
  }
  // Activations and scales are there, sums, floats of groups; all has been used; and once more.
  for (int barrier = 0; barrier < 7; ++barrier) {
    with_features.push_back({Fault::no_block_barrier, barrier, "decode"});
  }
  // (With features there are barriers around them, which would do for these.)
  const std::vector<Lack> without = {
      {Fault::no_block_barrier, kSlices + 1, "mma"},  // the first sums are there
      {Fault::no_block_barrier, kSlices + 2, "mma"},  // ... and were used
  };
  for (const Groups& groups :
       {Groups{WeightFormat::int4_group, 32, true}, Groups{WeightFormat::nf4, 32},
        Groups{WeightFormat::int8_group, 64}}) {
    for (const GemmKernelCase& kernel : kernels_of(groups.format)) {
      if (std::string(kernel.name) == "chosen") continue;
      const bool by_passes = kernel.most_rows <= 32 || groups.format == WeightFormat::int8_group;
      for (const bool features : {true, false}) {
        NibbleProblem problem(
            {.m = by_passes ? std::min<std::int64_t>(kernel.most_rows, 32) : 140,
             .n = 150,
             .k = by_passes ? (kPasses - 1) * 1024 + 96 : (kSlices - 1) * 128 + 96,
             .found = features ? 20 : 0,
             .y = DType::bfloat16},
            groups);
        const std::string want = problem.want();
        settings.fault = Fault::none;
        INFO(kernel.name << " " << to_string(groups.format));
        CHECK(!shows(kernel, problem, want));
        for (const Lack& lack : features ? with_features : without) {
          const std::string relies = lack.kernels;
          if (std::string(kernel.name).compare(0, relies.size(), relies) != 0) continue;
          settings.fault = lack.fault;
          settings.fault_index = lack.index;
          INFO(kernel.name << " with fault " << static_cast<int>(lack.fault) << " " << lack.index);
          CHECK(shows(kernel, problem, want));
        }
      }
    }
  }
}

}  // namespace kvant::test
