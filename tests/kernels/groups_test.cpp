// Products with weights in GroupPanels (int8-group, mxfp4, blocks of GGUF): every kernel set
// against the definition, bit for bit, in every shape of groups; what the kernels make of panels;
// and blocks that come back as they were.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "kernels/bit_difference.hpp"
#include "kernels/group_weights.hpp"
#include "kernels/kernel_sets.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr GgufBlocks kOwnTypes[] = {GgufBlocks::q4_1, GgufBlocks::q5_0, GgufBlocks::q5_1,
                                    GgufBlocks::q4_k, GgufBlocks::q5_k, GgufBlocks::q6_k};
constexpr GgufBlocks kTypes[] = {GgufBlocks::q4_0, GgufBlocks::q4_1, GgufBlocks::q5_0,
                                 GgufBlocks::q5_1, GgufBlocks::q8_0, GgufBlocks::q4_k,
                                 GgufBlocks::q5_k, GgufBlocks::q6_k};

/// y = x W^T by the definition (numerics.md): exact integers in a group, one fma for each, one more
/// for its offset.
std::vector<float> defined_product(const PackedWeights::State& w, const std::vector<float>& x,
                                   std::int64_t m) {
  std::vector<std::vector<int>> a;
  std::vector<float> row_scale;
  for (std::int64_t r = 0; r < m; ++r) {
    const float* row = x.data() + r * w.k;
    float absmax = 0.0f;
    for (std::int64_t k = 0; k < w.k; ++k) absmax = std::max(absmax, std::fabs(row[k]));
    row_scale.push_back(absmax / 127.0f);
    a.emplace_back();
    for (std::int64_t k = 0; k < w.k; ++k) {
      a.back().push_back(static_cast<int>(std::nearbyint(row[k] * (127.0f / absmax))));
    }
  }
  std::vector<float> y(static_cast<std::size_t>(m * w.n));
  for (std::int64_t n = 0; n < w.n; ++n) {
    const GroupedRow row = grouped_row(w, n);
    for (std::int64_t r = 0; r < m; ++r) {
      float sum = 0.0f;
      for (std::int64_t first = 0; first < w.k; first += row.group) {
        std::int64_t group = 0;
        std::int64_t activations = 0;
        for (std::int64_t k = first; k < std::min(w.k, first + row.group); ++k) {
          const int code = a[static_cast<std::size_t>(r)][static_cast<std::size_t>(k)];
          group += std::int64_t{row.integers[static_cast<std::size_t>(k)]} * code;
          activations += code;
        }
        const auto at = static_cast<std::size_t>(first);
        sum = std::fma(static_cast<float>(group), row.scales[at], sum);
        if (!row.offsets.empty()) {
          sum = std::fma(static_cast<float>(activations), row.offsets[at], sum);
        }
      }
      y[static_cast<std::size_t>(r * w.n + n)] = sum * row_scale[static_cast<std::size_t>(r)];
    }
  }
  return y;
}

/// make(context) packs the weights; every set multiplies them as the definition says.
template <class Make>
void check_sets(const std::string& what, std::int64_t m, const std::vector<float>& x, Make&& make) {
  std::vector<float> want;
  for (const KernelTable* kernels : kernel_sets()) {
    Context context({.kernels = kernels});
    const PackedWeights packed = make(context);
    std::vector<float> y(static_cast<std::size_t>(m * packed.n()), -1.0f);
    Linear::from(packed, {}, {.threshold = 0.0f})
        .forward(context, view(x, m, packed.k()), MatrixView<float>(y.data(), m, packed.n()));
    if (want.empty()) want = defined_product(packed.state(), x, m);
    const std::string different = difference(y, want);
    INFO(kernels->name << " " << what << " m " << m << ": " << different);
    CHECK(different.empty());
  }
}

void check_blocks(GgufBlocks type, std::int64_t m, std::int64_t n, std::int64_t k) {
  std::mt19937_64 generator(test_seed());
  const std::vector<std::byte> blocks = random_blocks(generator, type, n, k);
  check_sets(std::string(describe(type).name) + " " + std::to_string(n) + "x" + std::to_string(k),
             m, random_floats(generator, m * k), [&](Context& context) {
               return PackedWeights::from_blocks(context, type, n, k, blocks);
             });
}

void check_quantized(WeightFormat format, std::int64_t m, std::int64_t n, std::int64_t k,
                     std::int64_t block) {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, n * k);
  check_sets(std::string(to_string(format)) + " " + std::to_string(n) + "x" + std::to_string(k) +
                 " blocks of " + std::to_string(block),
             m, random_floats(generator, m * k), [&](Context& context) {
               return PackedWeights::quantize(context, view(w, n, k), format, {.block = block});
             });
}

}  // namespace

TEST_CASE("groups: every kernel set equals the definition, rows and outputs at the tiles' edges") {
  for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13}) {
    for (const std::int64_t n : {1, 16, 49, 193}) {
      check_quantized(WeightFormat::int8_group, m, n, 160, 32);
      check_blocks(GgufBlocks::q6_k, m, n, 256);
    }
    for (const GgufBlocks type : kOwnTypes) check_blocks(type, m, 50, 256);
  }
  check_blocks(GgufBlocks::q4_k, 131, 20, 512);  // more rows than share what is taken apart
  check_quantized(WeightFormat::int8_group, 131, 20, 300, 1024);
}

TEST_CASE("groups: of every length: short last ones, one for the row, longer than a run") {
  for (const std::int64_t m : {1, 7}) {
    for (const auto& [k, block] : {std::pair<std::int64_t, std::int64_t>{1, 32},
                                   {31, 32},
                                   {64, 32},
                                   {100, 64},
                                   {129, 128},
                                   {300, 96},
                                   {770, 160},
                                   {770, 256},
                                   {770, 1024},
                                   {4096, 4096}}) {
      check_quantized(WeightFormat::int8_group, m, 50, k, block);
    }
    for (const std::int64_t k : {1, 32, 70, 300}) {
      check_quantized(WeightFormat::mxfp4, m, 50, k, 32);
    }
    for (const std::int64_t k : {32, 96, 160, 576}) {
      check_blocks(GgufBlocks::q4_1, m, 50, k);
      check_blocks(GgufBlocks::q5_0, m, 50, k);
      check_blocks(GgufBlocks::q5_1, m, 50, k);
    }
    for (const std::int64_t k : {512, 768}) {
      check_blocks(GgufBlocks::q4_k, m, 50, k);
      check_blocks(GgufBlocks::q6_k, m, 50, k);
    }
  }
}

namespace {

void check_largest_sums(std::int64_t m) {
  const std::int64_t n = 20;
  const std::int64_t k = 4096;
  std::vector<float> x;
  for (std::int64_t i = 0; i < m * k; ++i) {
    const std::int64_t row = i / k;
    x.push_back(row == 0 || (row == 1 && i % 4 < 2) || (row == 2 && i % 8 < 4) ? 1.0f : -1.0f);
  }
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(k);
    codes[i] = row % 3 == 0 ? 0x80 : row % 3 == 1 ? 0x7F : i % 2 == 0 ? 0x80 : 0x7F;
  }
  for (const std::int64_t block : {32, 4096}) {
    const std::vector<float> scales(static_cast<std::size_t>(n * k / block), 0.5f);
    check_sets("int8-group, block " + std::to_string(block), m, x, [&](Context& context) {
      return PackedWeights::from_codes(context, {.format = WeightFormat::int8_group,
                                                 .codes = view(codes, n, k),
                                                 .scales = scales,
                                                 .block = block});
    });
  }
  for (const std::uint8_t code : {std::uint8_t{7}, std::uint8_t{15}}) {  // 6 and -6
    const std::vector<std::uint8_t> sixes(codes.size(), code);
    const std::vector<float> scales(static_cast<std::size_t>(n * k / 32), 0.5f);
    check_sets("mxfp4 all " + std::to_string(code), m, x, [&](Context& context) {
      return PackedWeights::from_codes(
          context, {.format = WeightFormat::mxfp4, .codes = view(sixes, n, k), .scales = scales});
    });
  }
  for (const GgufBlocks type : kOwnTypes) {
    for (const int byte : {0, 255}) {
      std::mt19937_64 generator(test_seed());
      std::vector<std::byte> blocks = random_blocks(generator, type, n, k);
      detail::GgufBlock block;
      for (std::size_t at = 0; at < blocks.size();
           at += static_cast<std::size_t>(describe(type).bytes)) {
        detail::read_block(type, blocks.data() + at, block);
        std::memset(block.codes, byte, sizeof(block.codes));
        detail::write_block(type, block, blocks.data() + at);
      }
      check_sets(std::string(describe(type).name) + " all " + std::to_string(byte), m, x,
                 [&](Context& context) {
                   return PackedWeights::from_blocks(context, type, n, k, blocks);
                 });
    }
  }
}

}  // namespace

TEST_CASE("groups: the largest sums stay exact, -128 too") {
  check_largest_sums(1);
  check_largest_sums(4);
  check_largest_sums(7);  // more rows than are multiplied where codes are taken apart
}

TEST_CASE("groups: outliers, kept columns and bias give every kernel set the same bits") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 97;
  const std::int64_t k = 512;
  const std::vector<std::int64_t> keep = {5, 100};
  for (const GgufBlocks type : kTypes) {
    const std::vector<std::byte> blocks = random_blocks(generator, type, n, k);
    const std::vector<float> bias = random_floats(generator, n);
    for (const std::int64_t m : {1, 3, 9}) {
      std::vector<float> x = random_floats(generator, m * k);
      for (const std::int64_t column : {3, 17, 100, 223, 511}) {
        x[static_cast<std::size_t>((m - 1) * k + column)] = 20.0f;
      }
      for (const bool keeps : {false, true}) {
        std::vector<float> want;
        std::vector<float> exact(static_cast<std::size_t>(m * n));
        for (const KernelTable* kernels : kernel_sets()) {
          Context context({.kernels = kernels});
          const auto packed = PackedWeights::from_blocks(context, type, n, k, blocks);
          Matrix<float> values(n, k);
          packed.dequantize(MatrixView<float>(values));
          std::vector<float> kept;
          for (std::int64_t r = 0; r < n && keeps; ++r) {
            for (const std::int64_t column : keep) kept.push_back(values(r, column));
          }
          ActivationOptions options;
          if (keeps) options.keep_columns = keep;
          const ConstAnyMatrix kept_view = keeps ? view(kept, n, 2) : ConstAnyMatrix();
          std::vector<float> y(static_cast<std::size_t>(m * n));
          Linear::from(packed, view(bias, 1, n), options, kept_view)
              .forward(context, view(x, m, k), MatrixView<float>(y.data(), m, n));
          if (want.empty()) {
            want = y;
            Linear::from(packed, view(bias, 1, n), {.arithmetic = Arithmetic::exact})
                .forward(context, view(x, m, k), MatrixView<float>(exact.data(), m, n));
          }
          const std::string different = difference(y, want);
          INFO(kernels->name << " " << describe(type).name << " m " << m << ": " << different);
          CHECK(different.empty());
          double error = 0.0;
          double size = 0.0;
          for (std::size_t i = 0; i < y.size(); ++i) {
            error += std::pow(static_cast<double>(y[i]) - static_cast<double>(exact[i]), 2);
            size += std::pow(static_cast<double>(exact[i]), 2);
          }
          CHECK(error <= 1e-3 * size);  // 30 dB and more: of quantized activations alone
        }
      }
    }
  }
}

TEST_CASE("groups: a panel widened by a kernel has the values of the blocks, bit for bit") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 50;
  const std::int64_t k = 512;
  const std::vector<float> w = random_floats(generator, n * k);
  for (const KernelTable* kernels : kernel_sets()) {
    Context context({.kernels = kernels});
    std::vector<PackedWeights> all;
    for (const GgufBlocks type : kTypes) {
      const std::vector<std::byte> blocks = random_blocks(generator, type, n, k);
      all.push_back(PackedWeights::from_blocks(context, type, n, k, blocks));
      // The plain meaning of the file's bytes.
      std::vector<float> values(static_cast<std::size_t>(n * k));
      std::vector<float> packed(values.size());
      const GgufBlocksInfo& info = describe(type);
      for (std::int64_t i = 0; i < n * k / info.elements; ++i) {
        dequantize_block(type, blocks.data() + i * info.bytes, values.data() + i * info.elements);
      }
      all.back().dequantize(MatrixView<float>(packed.data(), n, k));
      INFO(kernels->name << " " << info.name);
      CHECK(difference(packed, values).empty());
      if (!describe(info.format).is_gguf()) continue;
      CHECK(all.back().stored_bytes() == blocks.size());
      std::vector<std::byte> row(blocks.size() / static_cast<std::size_t>(n));
      for (std::int64_t r = 0; r < n; ++r) {
        all.back().state().unpack_row(r, row.data());
        CHECK(std::memcmp(row.data(), blocks.data() + static_cast<std::size_t>(r) * row.size(),
                          row.size()) == 0);
      }
    }
    for (const std::int64_t block : {32, 96, 1024}) {
      all.push_back(PackedWeights::quantize(context, view(w, n, k), WeightFormat::int8_group,
                                            {.block = block}));
    }
    all.push_back(PackedWeights::quantize(context, view(w, n, k), WeightFormat::mxfp4));
    for (const PackedWeights& packed : all) {
      const PackedWeights::State& state = packed.state();
      std::vector<float> values(static_cast<std::size_t>(n * k));
      packed.dequantize(MatrixView<float>(values.data(), n, k));
      const std::int64_t nr = packed.layout().nr;
      std::vector<float> panel(static_cast<std::size_t>(nr * state.k_padded), -1.0f);
      GemmArgs args{};
      args.b = packed.data();
      if (state.is_groups()) args.groups = state.groups();
      if (state.is_nibbles()) args.nibbles = state.nibbles();
      args.range.k_padded = state.k_padded;
      bool same = true;
      for (std::int64_t p = 0; p < packed.panels(); ++p) {
        args.range.panel_begin = p;
        kernels->gemm_for(packed.format()).widen_panel(args, panel.data());
        for (std::int64_t r = 0; r < std::min(nr, n - p * nr); ++r) {
          for (std::int64_t i = 0; i < k; ++i) {
            same = same && panel[static_cast<std::size_t>(i * nr + r)] ==
                               values[static_cast<std::size_t>((p * nr + r) * k + i)];
          }
        }
      }
      INFO(kernels->name << " " << to_string(packed.format()));
      CHECK(same);
    }
  }
}

TEST_CASE("groups: blocks are saved, mapped and repacked for other kernels; damage is found") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::string file = (folder.path() / "weights.packed").string();
  std::vector<std::string> sets;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) sets.emplace_back(isa.name);
  }
  const std::int64_t n = 50;
  const std::int64_t k = 256;
  for (const GgufBlocks type : kTypes) {
    const std::vector<std::byte> blocks = random_blocks(generator, type, n, k);
    const std::vector<float> x = random_floats(generator, 3 * k);
    std::vector<float> want;
    for (const std::string& from : sets) {
      Context packer({.isa = from});
      PackedWeights::from_blocks(packer, type, n, k, blocks).save(file);
      for (const std::string& to : sets) {
        Context context({.isa = to});
        std::vector<float> y(3 * 50);
        Linear::from(PackedWeights::map(context, file))
            .forward(context, view(x, 3, k), MatrixView<float>(y.data(), 3, n));
        if (want.empty()) want = y;
        INFO(describe(type).name << " from " << from << " to " << to);
        CHECK(difference(y, want).empty());
      }
      // Whatever the bytes behind the header are: no read or write outside (sanitizers watch).
      std::vector<std::byte> bad = read_bytes(file);
      for (std::size_t at = 4096; at < bad.size(); ++at) {
        bad[at] = static_cast<std::byte>(generator() & 255u);
      }
      std::ofstream(file, std::ios::binary | std::ios::trunc)
          .write(reinterpret_cast<const char*>(bad.data()),
                 static_cast<std::streamsize>(bad.size()));
      std::vector<float> y(3 * 50);
      Linear::from(PackedWeights::map(packer, file))
          .forward(packer, view(x, 3, k), MatrixView<float>(y.data(), 3, n));
    }
  }
}

TEST_CASE("groups: blocks that are no weights are refused") {
  Context context;
  std::mt19937_64 generator(test_seed());
  for (const GgufBlocks type : kTypes) {
    const GgufBlocksInfo& info = describe(type);
    const std::int64_t k = 2 * info.elements;
    std::vector<std::byte> blocks = random_blocks(generator, type, 3, k);
    const auto from = [&](std::int64_t n, std::int64_t columns) {
      return [&blocks, &context, type, n, columns] {
        (void)PackedWeights::from_blocks(context, type, n, columns, blocks);
      };
    };
    INFO(info.name);
    CHECK(code_of(from(3, k)) == ErrorCode::ok);
    CHECK(message_of(from(3, k - 1), ErrorCode::shape_mismatch).find(std::string(info.name)) !=
          std::string::npos);
    message_of(from(4, k), ErrorCode::shape_mismatch);
    message_of(from(0, k), ErrorCode::shape_mismatch);
    message_of(from(-1, k), ErrorCode::shape_mismatch);
    message_of(from(3, 0), ErrorCode::shape_mismatch);
    detail::GgufBlock block;
    std::byte* const last = blocks.data() + 5 * info.bytes;
    detail::read_block(type, last, block);
    block.scale = 0x7C00;
    detail::write_block(type, block, last);
    CHECK(message_of(from(3, k), ErrorCode::invalid_argument).find("block 1 of row 2") !=
          std::string::npos);
    CHECK(PackedWeights::from_blocks(context, type, 0, k, {}).n() == 0);
  }
  const std::vector<float> w(64, 1.0f);
  CHECK(message_of([&] { (void)PackedWeights::quantize(view(w, 2, 32), WeightFormat::q4_1); },
                   ErrorCode::unsupported)
            .find("from_blocks") != std::string::npos);
  const std::vector<std::uint8_t> codes(64, 1);
  const std::vector<float> scales(2, 1.0f);
  message_of(
      [&] {
        (void)PackedWeights::from_codes(
            context, {.format = WeightFormat::q5_0, .codes = view(codes, 2, 32), .scales = scales});
      },
      ErrorCode::unsupported);
  const PackedWeights q4_1 = PackedWeights::from_blocks(
      context, GgufBlocks::q4_1, 2, 32, random_blocks(generator, GgufBlocks::q4_1, 2, 32));
  std::vector<std::uint8_t> rows(64);
  message_of([&] { q4_1.unpack_rows(0, MatrixView<std::uint8_t>(rows.data(), 2, 32)); },
             ErrorCode::unsupported);
}

}  // namespace kvant::test
